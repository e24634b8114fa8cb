#include "model/io/random_model.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "base/fail.h"
#include "model/arch/arch.h"
#include "model/io/gguf.h"
#include "model/io/quantize_file.h"
#include "tensor/quantize.h"

namespace larder {
namespace {

struct Shape {
  std::string_view arch;
  std::uint32_t n_layers, n_embd, n_ff, n_heads, n_kv_heads, head_dim, n_vocab;
  float rope_base;
  bool qk_norm;
  LatentConfig latent = {};
  ExpertConfig experts = {};
};

constexpr LatentConfig kLiteLatent = {512, 0, 128, 64, 128};
constexpr ExpertConfig kLiteExperts = {64, 6, 2, 1408, 1, 1, 1, 1.0F, false};
constexpr LatentConfig kSmallLatent = {128, 0, 32, 32, 64};

constexpr std::array<std::string_view, 7> kNames = {
    "SmolLM2-135M",        "Llama-3.2-1B", "Qwen3-0.6B", "DeepSeek-V2-Lite",
    "DeepSeek-V2-Lite-4L", "MLA-135M",     "tiny"};
constexpr std::array<Shape, 7> kShapes = {{
    {"llama", 30, 576, 1536, 9, 3, 64, 49152, 1e5F, false},
    {"llama", 16, 2048, 8192, 32, 8, 64, 128256, 5e5F, false},
    {"qwen3", 28, 1024, 3072, 16, 8, 128, 151936, 1e6F, true},
    {"deepseek2", 27, 2048, 10944, 16, 1, 192, 102400, 1e4F, false, kLiteLatent, kLiteExperts},
    {"deepseek2", 4, 2048, 10944, 16, 1, 192, 102400, 1e4F, false, kLiteLatent, kLiteExperts},
    {"deepseek2", 30, 576, 1536, 9, 1, 64, 49152, 1e4F, false, kSmallLatent},
    {"llama", 2, 64, 128, 4, 2, 16, 512, 1e4F, false},
}};
constexpr std::uint32_t kContext = 32768;

bool same_name(std::string_view a, std::string_view b) {
  const auto same = [](unsigned char x, unsigned char y) {
    return std::tolower(x) == std::tolower(y);
  };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), same);
}

struct PlannedTensor {
  std::string name;
  std::vector<std::uint64_t> shape;  // outermost first; one dimension: a norm

  bool is_matrix() const { return shape.size() > 1; }
  std::uint64_t n_cols() const { return shape.back(); }
  std::uint64_t n_rows() const {
    std::uint64_t n = 1;
    for (std::size_t i = 0; i + 1 < shape.size(); ++i) n *= shape[i];
    return n;
  }
  DType stored_as(DType type) const { return is_matrix() && !is_router(name) ? type : DType::f32; }
};

using AddTensor = std::function<void(std::string_view, std::vector<std::uint64_t>)>;

void plan_attention(const ModelConfig& c, const AddTensor& add) {
  const std::uint64_t q = std::uint64_t{c.n_heads} * c.head_dim;
  const std::uint64_t kv = std::uint64_t{c.n_kv_heads} * c.head_dim;
  add("attn_norm", {c.n_embd});
  add("attn_q", {q, c.n_embd});
  if (c.has_latent()) {
    add("attn_kv_a_mqa", {c.latent.row_dim(), c.n_embd});
    add("attn_kv_a_norm", {c.latent.kv_rank});
    add("attn_k_b", {c.n_heads, c.latent.kv_rank, c.latent.nope_dim});
    add("attn_v_b", {c.n_heads, c.latent.v_dim, c.latent.kv_rank});
  } else {
    add("attn_k", {kv, c.n_embd});
    add("attn_v", {kv, c.n_embd});
  }
  if (c.qk_norm) {
    add("attn_q_norm", {c.head_dim});
    add("attn_k_norm", {c.head_dim});
  }
  add("attn_output", {c.n_embd, std::uint64_t{c.n_heads} * c.value_dim()});
}

void plan_feed_forward(const ModelConfig& c, std::uint32_t layer, const AddTensor& add) {
  add("ffn_norm", {c.n_embd});
  if (!c.has_experts(layer)) {
    add("ffn_gate", {c.n_ff, c.n_embd});
    add("ffn_up", {c.n_ff, c.n_embd});
    add("ffn_down", {c.n_embd, c.n_ff});
    return;
  }
  const ExpertConfig& e = c.experts;
  const std::uint64_t shared = std::uint64_t{e.n_shared} * e.n_ff;
  add("ffn_gate_inp", {e.n_experts, c.n_embd});
  add("ffn_gate_exps", {e.n_experts, e.n_ff, c.n_embd});
  add("ffn_up_exps", {e.n_experts, e.n_ff, c.n_embd});
  add("ffn_down_exps", {e.n_experts, c.n_embd, e.n_ff});
  add("ffn_gate_shexp", {shared, c.n_embd});
  add("ffn_up_shexp", {shared, c.n_embd});
  add("ffn_down_shexp", {c.n_embd, shared});
}

std::vector<PlannedTensor> plan_tensors(const ModelConfig& c) {
  std::vector<PlannedTensor> tensors = {{"token_embd.weight", {c.n_vocab, c.n_embd}},
                                        {"output_norm.weight", {c.n_embd}}};
  for (std::uint32_t layer = 0; layer < c.n_layers; ++layer) {
    const AddTensor add = [&](std::string_view name, std::vector<std::uint64_t> shape) {
      tensors.push_back({fmt::format("blk.{}.{}.weight", layer, name), std::move(shape)});
    };
    plan_attention(c, add);
    plan_feed_forward(c, layer, add);
  }
  return tensors;
}

/// Some encoded rows; every row of a matrix is one of them, rotated by whole quantisation blocks.
class RowPattern {
 public:
  RowPattern(DType type, std::uint64_t n_cols)
      : row_bytes_(row_bytes(type, n_cols)),
        block_bytes_(dtype_info(type).block_bytes),
        bytes_(kRows * row_bytes_) {
    // Outputs keep the size of the inputs: variance 1 / n_cols, as trained models roughly have.
    const float limit = std::sqrt(3.0F / static_cast<float>(n_cols));
    std::mt19937 random(static_cast<std::uint32_t>(n_cols));
    std::vector<float> row(n_cols);
    for (std::size_t i = 0; i < kRows; ++i) {
      for (float& x : row) {
        x = (static_cast<float>(random() >> 8) * 0x1p-23F - 1.0F) * limit;
      }
      encode_row(type, row.data(), n_cols, bytes_.data() + i * row_bytes_);
    }
  }

  /// Appends row number `hash` of the endless pattern.
  void append(std::uint64_t hash, std::vector<std::byte>& out) const {
    const auto row = std::span(bytes_).subspan(hash % kRows * row_bytes_, row_bytes_);
    const std::size_t turn = hash / kRows % (row_bytes_ / block_bytes_) * block_bytes_;
    out.insert(out.end(), row.begin() + static_cast<std::ptrdiff_t>(turn), row.end());
    out.insert(out.end(), row.begin(), row.begin() + static_cast<std::ptrdiff_t>(turn));
  }

 private:
  static constexpr std::size_t kRows = 61;
  std::size_t row_bytes_, block_bytes_;
  std::vector<std::byte> bytes_;  // [kRows, row_bytes_]
};

std::uint64_t mix(std::uint64_t x) {  // splitmix64's finaliser
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

Result<void> write_matrix(const PlannedTensor& tensor, std::uint64_t seed, DType type,
                          GgufWriter& writer) {
  constexpr std::size_t kPieceBytes = 1 << 20;
  const RowPattern pattern(type, tensor.n_cols());
  std::vector<std::byte> piece;
  piece.reserve(kPieceBytes + row_bytes(type, tensor.n_cols()));
  for (std::uint64_t row = 0; row < tensor.n_rows(); ++row) {
    pattern.append(mix(seed << 32 | row), piece);
    if (piece.size() < kPieceBytes && row + 1 < tensor.n_rows()) continue;
    LARDER_TRY(writer.append(piece));
    piece.clear();
  }
  return {};
}

void put_vocabulary(std::uint32_t n_vocab, GgufWriter& writer) {
  constexpr std::int64_t kNormal = 1, kUnknown = 2, kControl = 3, kByte = 6;
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<std::int64_t> types = {kUnknown, kControl, kControl};
  for (int byte = 0; byte < 256; ++byte) {
    tokens.push_back(fmt::format("<0x{:02X}>", byte));
    types.push_back(kByte);
  }
  while (tokens.size() < n_vocab) {
    tokens.push_back(fmt::format("\u2581w{}", tokens.size()));
    types.push_back(kNormal);
  }
  std::vector<double> scores(n_vocab);
  for (std::uint32_t i = 0; i < n_vocab; ++i) scores[i] = -static_cast<double>(i);
  writer.put("tokenizer.ggml.model", GgufType::string, std::string("llama"));
  writer.put_array("tokenizer.ggml.tokens", GgufType::string, std::move(tokens));
  writer.put_array("tokenizer.ggml.scores", GgufType::f32, std::move(scores));
  writer.put_array("tokenizer.ggml.token_type", GgufType::i32, std::move(types));
  writer.put("tokenizer.ggml.unknown_token_id", GgufType::u32, std::uint64_t{0});
  writer.put("tokenizer.ggml.bos_token_id", GgufType::u32, std::uint64_t{1});
  writer.put("tokenizer.ggml.eos_token_id", GgufType::u32, std::uint64_t{2});
}

}  // namespace

std::span<const std::string_view> random_model_shapes() noexcept { return kNames; }

Result<ModelConfig> random_model_config(std::string_view shape) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (!same_name(shape, kNames[i])) continue;
    const Shape& s = kShapes[i];
    ModelConfig config;
    config.arch = s.arch;
    config.name = fmt::format("{} shape, random weights", kNames[i]);
    config.n_layers = s.n_layers;
    config.n_embd = s.n_embd;
    config.n_ff = s.n_ff;
    config.n_heads = s.n_heads;
    config.n_kv_heads = s.n_kv_heads;
    config.head_dim = s.head_dim;
    config.n_vocab = s.n_vocab;
    config.n_context_train = kContext;
    config.rope.base = s.rope_base;
    config.latent = s.latent;
    config.experts = s.experts;
    config.rope.n_rot = config.has_latent() ? s.latent.rope_dim : s.head_dim;
    config.rope.style =
        s.arch == "llama" || config.has_latent() ? RopeStyle::adjacent : RopeStyle::halves;
    config.qk_norm = s.qk_norm;
    return config;
  }
  return fail(Errc::invalid_argument, "model shape '{}' is not known; there are: {}", shape,
              fmt::join(kNames, ", "));
}

Result<void> write_random_model(const ModelConfig& config, DType type, const std::string& path,
                                const std::function<void(float)>& progress) {
  const std::vector<PlannedTensor> tensors = plan_tensors(config);
  const DTypeInfo& info = dtype_info(type);
  for (const PlannedTensor& tensor : tensors) {
    if (tensor.is_matrix() && tensor.n_cols() % info.block_elems != 0) {
      return fail(Errc::invalid_argument,
                  "type {} needs rows of whole {}-element blocks, {} has {}", info.name,
                  info.block_elems, tensor.name, tensor.n_cols());
    }
  }
  LARDER_ASSIGN(GgufWriter writer, GgufWriter::create(path));
  config_to_gguf(config, writer);
  put_vocabulary(config.n_vocab, writer);
  for (const PlannedTensor& tensor : tensors) {
    writer.announce(tensor.name, tensor.stored_as(type), tensor.shape);
  }
  LARDER_TRY(writer.begin_data());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].is_matrix()) {
      LARDER_TRY(write_matrix(tensors[i], i, tensors[i].stored_as(type), writer));
    } else {
      const std::vector<float> ones(tensors[i].shape[0], 1.0F);
      LARDER_TRY(writer.write_tensor(std::as_bytes(std::span(ones))));
    }
    if (progress) progress(static_cast<float>(i + 1) / static_cast<float>(tensors.size()));
  }
  return writer.finish();
}

}  // namespace larder
