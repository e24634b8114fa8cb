#include "model/io/convert.h"

#include <algorithm>
#include <map>
#include <memory>
#include <span>
#include <unordered_set>

#include "base/fail.h"
#include "base/thread_pool.h"
#include "model/arch/arch.h"
#include "model/io/convert_input.h"
#include "model/io/convert_tensor.h"
#include "model/io/gguf.h"
#include "model/io/gguf_source.h"
#include "model/io/gguf_tokenizer.h"
#include "model/io/hf_card.h"
#include "model/io/hf_writer.h"
#include "model/io/quantize_file.h"
#include "model/io/regroup.h"

namespace larder {
namespace {

struct Plan {
  OutputTensor tensor;
  TensorTarget target;
};

/// Place of a tensor in the output: embedding, layers in order, then what follows them.
std::uint64_t place_of(std::string_view name) {
  if (name.starts_with("token_embd")) return 0;
  if (!name.starts_with("blk.")) return ~0ULL;
  return 1 + std::strtoull(name.substr(4).data(), nullptr, 10);
}

DType wanted_type(const ConvertOptions& options, const OutputTensor& tensor, bool keeps_type) {
  if (tensor.n_dims < 2 || is_router(tensor.name)) return DType::f32;
  const DType own = tensor.pieces.front().dtype;
  return keeps_type ? own : fitting_type(options.type.value_or(own), tensor.n_cols());
}

std::vector<Plan> plan_tensors(const ModelSource& source, const ConvertOptions& options,
                               ConvertReport& report) {
  const ModelConfig& config = source.config();
  const Arch& arch = *find_arch(config.arch);
  std::vector<Plan> plans;
  for (OutputTensor& tensor : regroup_tensors(source)) {
    const std::string& name = tensor.name;
    if (name.starts_with("rope_f")) continue;  // GGUF's: written from the configuration
    const bool keeps_type = source.keeps_type(tensor.from);
    TensorTarget target{source.shown_name(tensor.from), wanted_type(options, tensor, keeps_type),
                        arch.change(name), 1};
    const bool permutes =
        target.change == TensorChange::permute_q || target.change == TensorChange::permute_k;
    // Sources that already follow GGUF's convention (llama2.c) say so in their config.
    if (permutes && config.rope.style == RopeStyle::adjacent) target.change = TensorChange::none;
    if (target.change == TensorChange::add_one && source.norm_weight_offset() == 0) {
      target.change = TensorChange::none;
    }
    if (target.change == TensorChange::permute_q) target.n_heads = config.n_heads;
    if (target.change == TensorChange::permute_k) target.n_heads = config.n_kv_heads;
    if (tensor.n_dims >= 2 && options.type && target.dtype != *options.type && !is_router(name) &&
        !keeps_type) {
      report.fallbacks.push_back({name, target.dtype});
    }
    plans.push_back({std::move(tensor), std::move(target)});
  }
  std::stable_sort(plans.begin(), plans.end(), [](const Plan& a, const Plan& b) {
    return place_of(a.tensor.name) < place_of(b.tensor.name);
  });
  return plans;
}

/// Readers take the number of tokens for the number of embedding rows, which some models pad.
void pad_vocabulary(std::uint32_t n_vocab, TokenizerData& data) {
  if (data.kind == TokenizerKind::none || data.tokens.size() >= n_vocab) return;
  constexpr float kNeverMerged = -1000.0F;
  data.types.resize(data.tokens.size(), TokenType::normal);
  for (std::size_t i = data.tokens.size(); i < n_vocab; ++i) {
    data.tokens.push_back(fmt::format("[PAD{}]", i));
    data.types.push_back(TokenType::unused);
    if (!data.scores.empty()) data.scores.push_back(kNeverMerged);
  }
}

/// llama.cpp spells what a sentencepiece vocabulary lacks in byte tokens, and stops the program
/// where there are none.
void warn_of_missing_bytes(const TokenizerData& data, ConvertReport& report) {
  if (data.kind != TokenizerKind::sentencepiece) return;
  const std::unordered_set<std::string_view> tokens(data.tokens.begin(), data.tokens.end());
  std::size_t n_missing = 0;
  for (int byte = 0; byte < 256; ++byte) {
    if (!tokens.contains(fmt::format("<0x{:02X}>", byte))) ++n_missing;
  }
  if (n_missing == 0) return;
  report.warnings.push_back(
      fmt::format("the vocabulary lacks {} of the 256 byte tokens (<0x00> to <0xFF>): llama.cpp "
                  "aborts on text with characters that are no tokens",
                  n_missing));
}

/// The type that most elements of matrices have.
DType main_type(const std::vector<Plan>& plans) {
  std::map<DType, std::uint64_t> counts = {{DType::f32, 0}};
  for (const Plan& plan : plans) {
    if (plan.tensor.n_dims >= 2) counts[plan.target.dtype] += plan.tensor.n_elems();
  }
  const auto less = [](const auto& a, const auto& b) { return a.second < b.second; };
  return std::max_element(counts.begin(), counts.end(), less)->first;
}

/// What a GGUF input says beside its architecture's own keys, tokenizer included.
Result<bool> copy_gguf_metadata(const ModelSource& source, const ConvertOptions& options,
                                GgufWriter& writer) {
  if (!is_gguf_file(options.input)) return false;
  LARDER_ASSIGN(const auto file, GgufFile::open(options.input));
  LARDER_ASSIGN(const auto own, file->metadata().string("general.architecture"));
  GgufMetadata kept(options.input);
  for (const auto& [key, value] : file->metadata().entries()) {
    if (key.starts_with(own + ".")) continue;
    kept.set(key, value, file->metadata().type(key));
  }
  copy_metadata(kept, writer);
  return source.tokenizer().kind != TokenizerKind::none;
}

Result<void> write_metadata(const ModelSource& source, const ConvertOptions& options, DType type,
                            GgufWriter& writer) {
  LARDER_ASSIGN(const bool has_tokenizer, copy_gguf_metadata(source, options, writer));
  ModelConfig config = source.config();
  if (!options.name.empty()) config.name = options.name;
  config_to_gguf(config, writer);
  writer.put("general.type", GgufType::string, std::string("model"));
  std::string license = options.license;
  if (license.empty()) license = read_hf_license(options.input);
  if (!license.empty()) writer.put("general.license", GgufType::string, std::move(license));
  writer.put("general.file_type", GgufType::u32, std::uint64_t{gguf_file_type(type)});
  if (dtype_info(type).block_elems > 1) {
    writer.put("general.quantization_version", GgufType::u32, std::uint64_t{2});
  }
  if (has_tokenizer) return {};
  write_generation_defaults(source.generation_defaults(), writer);
  TokenizerData tokenizer = source.tokenizer();
  pad_vocabulary(config.n_vocab, tokenizer);
  if (tokenizer.kind == TokenizerKind::none) {  // llama.cpp insists on being told
    writer.put("tokenizer.ggml.model", GgufType::string, std::string("no_vocab"));
  }
  return write_tokenizer(tokenizer, writer);
}

/// The rope factors, then the weights.
Result<void> write_tensors(const std::vector<RopeTensor>& ropes, const std::vector<Plan>& plans,
                           TensorConverter& converter, GgufWriter& writer,
                           const ConvertProgress& progress) {
  for (const RopeTensor& rope : ropes) {
    LARDER_TRY(writer.write_tensor(std::as_bytes(std::span(rope.values))));
  }
  std::uint64_t all_bytes = 0, done_bytes = 0;
  for (const Plan& plan : plans) all_bytes += plan.tensor.bytes_in();
  std::vector<float> transposed;
  for (const Plan& plan : plans) {
    if (progress) {
      progress(plan.tensor.name, static_cast<float>(static_cast<double>(done_bytes) /
                                                    static_cast<double>(all_bytes)));
    }
    for (const TensorView& piece : plan.tensor.pieces) {
      const TensorView in = plan.tensor.transposed ? transpose_piece(piece, transposed) : piece;
      LARDER_TRY(converter.convert(
          in, plan.target, [&](std::span<const std::byte> bytes) { return writer.append(bytes); }));
    }
    done_bytes += plan.tensor.bytes_in();
  }
  return {};
}

void announce(const std::vector<RopeTensor>& ropes, const std::vector<Plan>& plans,
              GgufWriter& writer, ConvertReport& report) {
  for (const RopeTensor& rope : ropes) {
    const std::uint64_t n = rope.values.size();
    writer.announce(rope.name, DType::f32, {&n, 1});
    ++report.n_tensors;
  }
  for (const Plan& plan : plans) {
    const OutputTensor& t = plan.tensor;
    writer.announce(t.name, plan.target.dtype, std::span(t.shape).first(t.n_dims));
    ++report.n_tensors;
    report.n_weights += t.n_elems();
    report.weight_bytes += t.n_elems() / t.n_cols() * row_bytes(plan.target.dtype, t.n_cols());
  }
}

}  // namespace

Result<ConvertReport> convert_model(const ConvertOptions& options,
                                    const ConvertProgress& progress) {
  LARDER_ASSIGN(const auto source, open_for_conversion(options, progress));
  if (options.target == ConvertTarget::hf) return write_hf_directory(*source, options, progress);
  ConvertReport report;
  report.arch = source->config().arch;
  const auto plans = plan_tensors(*source, options, report);
  const auto ropes = rope_tensors(source->config().rope);
  report.type = options.type.value_or(main_type(plans));
  warn_of_missing_bytes(source->tokenizer(), report);
  LARDER_ASSIGN(auto writer, GgufWriter::create(options.output));
  LARDER_TRY(write_metadata(*source, options, report.type, writer));
  announce(ropes, plans, writer, report);
  LARDER_TRY(writer.begin_data());
  ThreadPool pool(std::max(1U, options.n_threads));
  TensorConverter converter(pool, options.input);
  LARDER_TRY(write_tensors(ropes, plans, converter, writer, progress));
  LARDER_TRY(writer.finish());
  if (progress) progress("", 1.0F);
  return report;
}

}  // namespace larder
