#include "model/io/hf_source.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <unordered_map>

#include "base/fail.h"
#include "model/arch/arch.h"
#include "model/arch/json_fields.h"
#include "model/arch/tensor_names.h"
#include "model/io/gguf_cursor.h"
#include "model/io/hf_generation.h"
#include "model/io/hf_json.h"
#include "model/io/hf_tokenizer.h"
#include "model/io/safetensors.h"

namespace larder {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxJsonBytes = 1U << 20;

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

/// Tensors of the layout that old checkpoints carry although they are computed, not learnt.
bool is_computed(std::string_view hf_name) {
  return hf_name.ends_with(".rotary_emb.inv_freq") || hf_name.ends_with(".masked_bias") ||
         hf_name.ends_with(".self_attn.bias");
}

class HfSource final : public ModelSource {
 public:
  static Result<std::unique_ptr<ModelSource>> open(const std::string& path,
                                                   const OpenOptions& options) {
    auto source = std::make_unique<HfSource>();
    source->path_ = path;
    const bool has_config = is_there(fs::path(path) / "config.json");
    if (has_config || !options.vocab_only) LARDER_TRY(source->read_config());
    LARDER_TRY(source->read_tokenizer());
    if (!options.vocab_only) LARDER_TRY(source->read_weights());
    return std::unique_ptr<ModelSource>(std::move(source));
  }

  const std::string& path() const override { return path_; }
  const ModelConfig& config() const override { return config_; }
  const TokenizerData& tokenizer() const override { return tokenizer_; }
  const GenerationDefaults& generation_defaults() const override { return generation_.defaults; }
  std::optional<TensorView> find(std::string_view canonical_name) const override {
    const auto it = views_.find(std::string(canonical_name));
    if (it == views_.end()) return std::nullopt;
    return it->second;
  }
  std::vector<std::string> tensor_names() const override { return names_; }
  std::string shown_name(std::string_view canonical_name) const override {
    if (arch_ == nullptr) return std::string(canonical_name);
    const auto own = hf_tensor_name(canonical_name, arch_->canonical_name);
    return own.empty() ? std::string(canonical_name) : fmt::format("{} ({})", own, canonical_name);
  }
  std::string weights_description() const override;
  std::uint64_t weights_bytes() const override {
    std::uint64_t bytes = 0;
    for (const auto& [name, view] : views_) bytes += view.bytes.size();
    return bytes;
  }
  void forget(const TensorView& view) const override {
    for (const auto& shard : shards_) shard->forget(view);
  }
  float norm_weight_offset() const override {
    return arch_ != nullptr && arch_->change("output_norm.weight") == TensorChange::add_one ? 1.0F
                                                                                            : 0.0F;
  }

 private:
  Result<void> read_config();
  Result<void> read_tokenizer();
  Result<void> read_weights();
  Result<void> add_tensor(const SafetensorsFile& file, const SafetensorsTensor& tensor);
  Result<void> settle_output(const std::string& origin);
  std::string file(std::string_view name) const { return (fs::path(path_) / name).string(); }

  std::string path_;
  const Arch* arch_ = nullptr;
  ModelConfig config_;
  TokenizerData tokenizer_;
  HfGeneration generation_;
  std::optional<bool> tied_;  // tie_word_embeddings; empty: not said
  std::vector<std::unique_ptr<SafetensorsFile>> shards_;
  std::unordered_map<std::string, TensorView> views_;  // by canonical name
  std::vector<std::string> names_;                     // canonical, file order
};

Result<void> HfSource::read_config() {
  const std::string origin = file("config.json");
  nlohmann::json root;
  LARDER_TRY(read_json_object(origin, kMaxJsonBytes, root));
  const JsonFields fields(root, origin);
  LARDER_ASSIGN(config_, config_from_hf(root, origin));
  arch_ = find_arch(config_.arch);
  LARDER_ASSIGN(config_.name, fields.string_or("_name_or_path", ""));
  config_.name = fs::path(config_.name.empty() ? path_ : config_.name).lexically_normal().string();
  while (config_.name.size() > 1 && config_.name.back() == '/') config_.name.pop_back();
  config_.name = fs::path(config_.name).filename().string();
  if (fields.has("tie_word_embeddings")) {
    LARDER_ASSIGN(tied_, fields.bool_or("tie_word_embeddings", false));
  }
  LARDER_ASSIGN(generation_, read_hf_generation(path_, fields, config_.n_vocab));
  return {};
}

Result<void> HfSource::read_tokenizer() {
  const bool there = is_there(file("tokenizer.json")) || is_there(file("tokenizer.model"));
  if (there) {
    LARDER_ASSIGN(tokenizer_, read_hf_tokenizer(path_));
    if (config_.n_vocab != 0 && tokenizer_.tokens.size() > config_.n_vocab) {
      return fail(Errc::corrupt, "{}: the tokenizer has {} tokens, config.json's vocab_size is {}",
                  path_, tokenizer_.tokens.size(), config_.n_vocab);
    }
  }
  auto& ends = tokenizer_.end_tokens;
  for (const TokenId id : generation_.end_tokens) {
    if (std::find(ends.begin(), ends.end(), id) == ends.end()) ends.push_back(id);
  }
  if (tokenizer_.eos == kNoToken && !generation_.end_tokens.empty()) {
    tokenizer_.eos = generation_.end_tokens.front();
  }
  return {};
}

Result<void> HfSource::add_tensor(const SafetensorsFile& from, const SafetensorsTensor& tensor) {
  if (is_computed(tensor.name)) return {};
  const auto name = arch_->canonical_name(tensor.name);
  if (!name) {
    return fail(Errc::unsupported, "{}: tensor '{}' is unknown to the architecture {}",
                from.origin(), printable(tensor.name), config_.arch);
  }
  if (name->starts_with("blk.") &&
      std::strtoul(name->c_str() + 4, nullptr, 10) >= config_.n_layers) {
    return fail(Errc::corrupt, "{}: tensor '{}' is of a layer beyond num_hidden_layers = {}",
                from.origin(), printable(tensor.name), config_.n_layers);
  }
  if (!tensor.view) {
    return fail(Errc::unsupported, "{}: tensor '{}' has dtype {} or too many dimensions, {}",
                from.origin(), printable(tensor.name), tensor.dtype,
                "weights are F32, F16 or BF16");
  }
  if (!views_.emplace(*name, *tensor.view).second) {
    return fail(Errc::corrupt, "{}: tensor '{}' is there twice", from.origin(),
                printable(tensor.name));
  }
  names_.push_back(*name);
  return {};
}

/// A tied model has one matrix for both ends. Files may hold it under either name or under both; of
/// two, `transformers` keeps the embedding.
Result<void> HfSource::settle_output(const std::string& origin) {
  const std::string embedding = "token_embd.weight", output = "output.weight";
  const auto stored = views_.find(output);
  if (stored == views_.end()) {
    if (tied_.value_or(true)) return {};
    return fail(Errc::not_found, "{}: tensor 'lm_head.weight' is missing and {}", origin,
                "config.json's tie_word_embeddings is false");
  }
  if (!tied_.value_or(false)) return {};
  const auto name = std::find(names_.begin(), names_.end(), output);
  if (views_.emplace(embedding, stored->second).second) {
    *name = embedding;
  } else {
    names_.erase(name);
  }
  views_.erase(output);
  return {};
}

Result<void> HfSource::read_weights() {
  std::vector<std::string> shard_names = {"model.safetensors"};
  if (!is_there(file(shard_names[0]))) {
    const std::string index = file("model.safetensors.index.json");
    if (!is_there(index)) {
      return fail(Errc::not_found, "{}: neither model.safetensors nor {} is there", path_,
                  "model.safetensors.index.json (pickled weights are not read)");
    }
    LARDER_ASSIGN(shard_names, read_shard_names(index));
  }
  for (const auto& name : shard_names) {
    LARDER_ASSIGN(auto shard, SafetensorsFile::open(file(name)));
    for (const auto& tensor : shard->tensors()) LARDER_TRY(add_tensor(*shard, tensor));
    shards_.push_back(std::move(shard));
  }
  LARDER_TRY(settle_output(path_));
  for (const std::string name : {"token_embd.weight", "output_norm.weight"}) {
    if (views_.contains(name)) continue;
    return fail(Errc::not_found, "{}: tensor '{}' is missing", path_, shown_name(name));
  }
  return {};
}

std::string HfSource::weights_description() const {
  std::map<DType, std::uint64_t> bytes;
  for (const auto& [name, view] : views_) {
    if (view.n_dims > 1) bytes[view.dtype] += view.bytes.size();
  }
  if (bytes.empty()) return "none";
  const auto most = std::max_element(
      bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  std::string text(dtype_info(most->first).name);
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return bytes.size() > 1 ? text + " mixed" : text;
}

}  // namespace

Result<std::unique_ptr<ModelSource>> open_hf_directory(const std::string& path,
                                                       const OpenOptions& options) {
  return HfSource::open(path, options);
}

}  // namespace larder
