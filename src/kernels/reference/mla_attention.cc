#include "kernels/reference/mla_attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "tensor/quantize.h"

namespace larder::reference {
namespace {

std::vector<double> multiply(const LinearWeight& w, const float* x) {
  std::vector<double> out(w.n_out);
  std::vector<float> row(w.n_in);
  for (std::uint32_t r = 0; r < w.n_out; ++r) {
    decode_row(w.dtype, w.data + r * row_bytes(w.dtype, w.n_in), w.n_in, row.data());
    for (std::uint32_t c = 0; c < w.n_in; ++c) out[r] += double{row[c]} * x[c];
  }
  return out;
}

void attend_one(const LatentCall& call, const LatentItem& item, std::uint32_t r,
                std::uint32_t head) {
  const LatentShape& s = call.shape;
  const std::size_t at = (std::size_t{item.first_row} + r) * s.n_heads + head;
  const float* q = call.q + at * s.key_dim();
  std::vector<double> scores;
  std::vector<std::vector<double>> values;
  std::vector<float> row(s.row_dim());
  for (std::uint32_t t = 0; t <= item.n_past + r; ++t) {
    const auto block = item.cached.blocks[t / s.block_tokens - item.cached.first_block];
    call.layout.v->read_v(call.layout.pool + to_offset(block), t % s.block_tokens,
                          {s.block_tokens, s.row_dim()}, row.data());
    const auto key = multiply(call.heads.k_up[head], row.data());
    double score = 0;
    for (std::uint32_t c = 0; c < s.nope_dim; ++c) score += q[c] * key[c];
    for (std::uint32_t c = 0; c < s.rope_dim; ++c) {
      score += double{q[s.nope_dim + c]} * row[s.kv_rank + c];
    }
    scores.push_back(score * s.scale);
    values.push_back(multiply(call.heads.v_up[head], row.data()));
  }
  const double max = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& score : scores) sum += score = std::exp(score - max);
  for (std::uint32_t c = 0; c < s.v_dim; ++c) {
    double out = 0;
    for (std::size_t t = 0; t < scores.size(); ++t) out += scores[t] / sum * values[t][c];
    call.out[at * s.v_dim + c] = static_cast<float>(out);
  }
}

}  // namespace

void attend_latent(const LatentCall& call) {
  for (const LatentItem& item : call.items) {
    for (std::uint32_t r = 0; r < item.n_rows; ++r) {
      for (std::uint32_t head = 0; head < call.shape.n_heads; ++head) {
        attend_one(call, item, r, head);
      }
    }
  }
}

}  // namespace larder::reference
