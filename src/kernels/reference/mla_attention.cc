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

struct Seen {
  std::uint32_t row, by;  // positions
};

/// Row [row_dim] as the query sees it: of its own block as the open formats have it, of earlier
/// ones as it was sealed; in the plain basis but for keys, whose queries are rotated too.
void read_row(const LatentCall& call, const LatentItem& item, const Seen& seen, float* out) {
  const LatentShape& s = call.shape;
  const KvLayout& layout = call.layout;
  const KvRows& cached = item.step.heads[0];
  const std::uint32_t block = seen.row / s.block_tokens, row = seen.row % s.block_tokens;
  const bool is_own = layout.seals() && seen.by / s.block_tokens == block;
  const bool is_open = layout.seals() && (is_own || layout.is_raw(block));
  const std::byte* data = is_own
                              ? open_block(layout, item.step, {0, 1, block, s.block_tokens})
                              : layout.pool + to_offset(cached.blocks[block - cached.first_block]);
  const KvCodec& k = is_open ? *layout.open_k : *layout.k;
  const KvCodec& v = is_open ? *layout.open_v : *layout.v;
  const KvShape parts = s.parts();
  k.read_k(data, row, parts.k, out + s.kv_rank);
  v.read_v(data + (is_open ? layout.open_v_offset : layout.v_offset), row, parts.v, out);
  if (layout.v->rotates) simd::scalar_table().hadamard(out, 1, s.kv_rank);
}

void attend_one(const LatentCall& call, const LatentItem& item, std::uint32_t r,
                std::uint32_t head) {
  const LatentShape& s = call.shape;
  const std::size_t at = (std::size_t{item.first_row()} + r) * s.n_heads + head;
  const float* q = call.q + at * s.key_dim();
  std::vector<double> scores;
  std::vector<std::vector<double>> values;
  std::vector<float> row(s.row_dim());
  for (std::uint32_t t = 0; t <= item.n_past() + r; ++t) {
    read_row(call, item, {t, item.n_past() + r}, row.data());
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
