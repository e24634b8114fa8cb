#include "model/surgery/attention_layer.h"

#include <cmath>

#include "base/check.h"
#include "base/fail.h"
#include "tensor/quantize.h"

namespace larder {
namespace {

/// Rows [first, first + n) of a weight and their biases. REQUIRES: the tensor exists.
Result<Matrix> read_linear(const ModelSource& source, const std::string& name, std::size_t first,
                           std::size_t n) {
  const auto weight = source.find(name + ".weight");
  const auto bias = source.find(name + ".bias");
  const std::size_t n_cols = weight->n_cols();
  const std::size_t stride = row_bytes(weight->dtype, n_cols);
  Matrix out(n, n_cols + 1);
  std::vector<float> row(n_cols), biases;
  if (bias) {
    biases.resize(bias->n_cols());
    decode_row(bias->dtype, bias->bytes.data(), biases.size(), biases.data());
  }
  for (std::size_t r = 0; r < n; ++r) {
    decode_row(weight->dtype, weight->bytes.data() + (first + r) * stride, n_cols, row.data());
    for (std::size_t c = 0; c < n_cols; ++c) out(r, c) = row[c];
    if (bias) out(r, n_cols) = biases[first + r];
    for (const double x : out.row(r)) {
      if (std::isfinite(x)) continue;
      return fail(Errc::corrupt, "{}: tensor '{}' holds a value in row {} that is not a number",
                  source.path(), source.shown_name(name + ".weight"), first + r);
    }
  }
  return out;
}

}  // namespace

Result<AttentionLayer> read_attention(const ModelSource& source, std::uint32_t layer) {
  const ModelConfig& c = source.config();
  const std::size_t n_q = std::size_t{c.n_heads} * c.head_dim;
  const std::size_t n_kv = std::size_t{c.n_kv_heads} * c.head_dim;
  const std::string prefix = fmt::format("blk.{}.", layer);
  const auto name = [&](const char* part) { return prefix + (c.fused_qkv ? "attn_qkv" : part); };
  const auto has_bias = [&](const char* part) {
    return source.find(name(part) + ".bias").has_value();
  };
  AttentionLayer out;
  LARDER_ASSIGN(out.q, read_linear(source, name("attn_q"), 0, n_q));
  LARDER_ASSIGN(out.k, read_linear(source, name("attn_k"), c.fused_qkv ? n_q : 0, n_kv));
  LARDER_ASSIGN(out.v, read_linear(source, name("attn_v"), c.fused_qkv ? n_q + n_kv : 0, n_kv));
  LARDER_ASSIGN(const Matrix o, read_linear(source, prefix + "attn_output", 0, c.n_embd));
  out.o = columns_of(o, 0, n_q);
  out.q_bias = has_bias("attn_q");
  out.k_bias = has_bias("attn_k");
  out.v_bias = has_bias("attn_v");
  return out;
}

std::pair<std::uint32_t, std::uint32_t> rope_pair(const ModelConfig& config, std::uint32_t pair) {
  const std::uint32_t n_rot = config.rope.n_rot;
  LARDER_CHECK(pair < config.head_dim / 2);
  if (2 * pair >= n_rot || config.rope.style == RopeStyle::adjacent) {
    return {2 * pair, 2 * pair + 1};
  }
  return {pair, pair + n_rot / 2};
}

InputMoment assumed_moment(const ModelSource& source, std::uint32_t layer) {
  const auto norm = source.find(fmt::format("blk.{}.attn_norm.weight", layer));
  std::vector<float> weights(norm->n_cols());
  decode_row(norm->dtype, norm->bytes.data(), weights.size(), weights.data());
  InputMoment moment;
  for (const float w : weights) {
    const double gain = static_cast<double>(w) + source.norm_weight_offset();
    moment.diagonal.push_back(gain * gain);
  }
  moment.diagonal.push_back(1);
  return moment;
}

Matrix moment_product(const Matrix& a, const InputMoment& moment, const Matrix& b) {
  if (moment.full.rows != 0) return multiply_transposed(multiply(a, moment.full), b);
  LARDER_CHECK(moment.diagonal.size() == a.cols);
  Matrix weighted = a;
  for (std::size_t r = 0; r < a.rows; ++r) {
    for (std::size_t c = 0; c < a.cols; ++c) weighted(r, c) *= moment.diagonal[c];
  }
  return multiply_transposed(weighted, b);
}

}  // namespace larder
