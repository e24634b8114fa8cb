#include "model/io/gguf_source.h"

#include <algorithm>
#include <cctype>
#include <map>

#include "base/fail.h"
#include "model/arch/arch.h"
#include "model/io/gguf.h"
#include "model/io/gguf_tokenizer.h"

namespace larder {
namespace {

struct FloatKey {
  std::string_view key;
  std::optional<float> GenerationDefaults::*member;
  float highest;
};
constexpr FloatKey kFloatKeys[] = {
    {"general.sampling.temp", &GenerationDefaults::temperature, 100},
    {"general.sampling.top_p", &GenerationDefaults::top_p, 1},
    {"general.sampling.min_p", &GenerationDefaults::min_p, 1},
    {"general.sampling.penalty_repeat", &GenerationDefaults::repetition_penalty, 100},
};
constexpr std::string_view kTopK = "general.sampling.top_k";

/// "Q4_K", "Q4_K mixed": the type of most bytes among the matrices, and whether there are others.
std::string describe(const GgufFile& file) {
  std::map<DType, std::uint64_t> bytes;
  for (const GgufTensor& tensor : file.tensors()) {
    if (tensor.view.n_dims > 1) bytes[tensor.view.dtype] += tensor.view.bytes.size();
  }
  if (bytes.empty()) return "no weights";
  const auto most = std::max_element(
      bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  std::string name(dtype_info(most->first).name);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return bytes.size() == 1 ? name : name + " mixed";
}

class GgufSource final : public ModelSource {
 public:
  GgufSource(std::unique_ptr<GgufFile> file, ModelConfig config, TokenizerData tokenizer,
             GenerationDefaults defaults)
      : file_(std::move(file)),
        config_(std::move(config)),
        tokenizer_(std::move(tokenizer)),
        defaults_(defaults),
        description_(describe(*file_)) {
    for (const GgufTensor& tensor : file_->tensors()) weights_bytes_ += tensor.view.bytes.size();
  }

  const std::string& path() const override { return file_->metadata().origin(); }
  const ModelConfig& config() const override { return config_; }
  const TokenizerData& tokenizer() const override { return tokenizer_; }
  const GenerationDefaults& generation_defaults() const override { return defaults_; }
  std::optional<TensorView> find(std::string_view canonical_name) const override {
    const GgufTensor* tensor = file_->find(canonical_name);
    return tensor == nullptr ? std::nullopt : std::optional(tensor->view);
  }
  std::vector<std::string> tensor_names() const override {
    std::vector<std::string> names;
    for (const GgufTensor& tensor : file_->tensors()) names.push_back(tensor.name);
    return names;
  }
  std::string weights_description() const override { return description_; }
  std::uint64_t weights_bytes() const override { return weights_bytes_; }
  void forget(const TensorView& view) const override { file_->forget(view); }

 private:
  std::unique_ptr<GgufFile> file_;
  ModelConfig config_;
  TokenizerData tokenizer_;
  GenerationDefaults defaults_;
  std::string description_;
  std::uint64_t weights_bytes_ = 0;
};

/// All that a file without hyper-parameters can say.
Result<ModelConfig> bare_config(const GgufMetadata& metadata, const TokenizerData& tokenizer) {
  ModelConfig config;
  LARDER_ASSIGN(config.arch, metadata.string_or("general.architecture", ""));
  LARDER_ASSIGN(config.name, metadata.string_or("general.name", ""));
  config.n_vocab = static_cast<std::uint32_t>(tokenizer.tokens.size());
  return config;
}

}  // namespace

Result<GenerationDefaults> read_generation_defaults(const GgufMetadata& metadata) {
  GenerationDefaults defaults;
  for (const FloatKey& entry : kFloatKeys) {
    if (!metadata.has(entry.key)) continue;
    LARDER_ASSIGN(const float value, metadata.f32(entry.key));
    if (value < 0 || value > entry.highest) {
      return fail(Errc::corrupt, "{}: '{}' = {} is not in 0..{}", metadata.origin(), entry.key,
                  value, entry.highest);
    }
    defaults.*entry.member = value;
  }
  if (metadata.has(kTopK)) {
    const GgufValue& value = *metadata.find(kTopK);
    const auto* negative = std::get_if<std::int64_t>(&value);
    if (negative != nullptr && *negative < 0) {  // llama.cpp's "off"
      defaults.top_k = 0;
    } else {
      LARDER_ASSIGN(const auto k, metadata.u32(kTopK));
      constexpr std::uint32_t kMost = 1U << 30;
      defaults.top_k = static_cast<std::int32_t>(std::min(k, kMost));
    }
  }
  return defaults;
}

void write_generation_defaults(const GenerationDefaults& defaults, GgufWriter& writer) {
  for (const FloatKey& entry : kFloatKeys) {
    const std::optional<float> value = defaults.*entry.member;
    if (value) writer.put(std::string(entry.key), GgufType::f32, static_cast<double>(*value));
  }
  if (defaults.top_k) {
    writer.put(std::string(kTopK), GgufType::i32, std::int64_t{*defaults.top_k});
  }
}

Result<std::unique_ptr<ModelSource>> open_gguf(const std::string& path,
                                               const OpenOptions& options) {
  LARDER_ASSIGN(auto file, GgufFile::open(path));
  return source_of(std::move(file), options);
}

Result<std::unique_ptr<ModelSource>> source_of(std::unique_ptr<GgufFile> file,
                                               const OpenOptions& options) {
  if (file->tensors().empty() && !options.vocab_only) {
    return fail(Errc::unsupported, "{}: a vocabulary-only file: it holds no tensors",
                file->metadata().origin());
  }
  LARDER_ASSIGN(const auto n_parts, file->metadata().u32_or("split.count", 1));
  if (n_parts > 1) {
    return fail(Errc::unsupported, "{}: one of {} parts of a split model; join them first",
                file->metadata().origin(), n_parts);
  }
  LARDER_ASSIGN(auto tokenizer, read_tokenizer(file->metadata()));
  ModelConfig config;
  if (auto full = config_from_gguf(*file)) {
    config = std::move(*full);
  } else if (options.vocab_only) {
    LARDER_ASSIGN(config, bare_config(file->metadata(), tokenizer));
  } else {
    return tl::unexpected<Error>(std::move(full).error());
  }
  LARDER_ASSIGN(const auto defaults, read_generation_defaults(file->metadata()));
  file->drop_metadata("tokenizer.");
  return std::unique_ptr<ModelSource>(std::make_unique<GgufSource>(
      std::move(file), std::move(config), std::move(tokenizer), defaults));
}

}  // namespace larder
