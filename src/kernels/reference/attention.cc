#include "kernels/reference/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace larder::reference {
namespace {

struct Query {
  const float* q;          // [head_dim]
  std::uint32_t position;  // it sees rows up to this one
  const KvRows& cached;
  float* out;  // [head_dim]
};

void attend_one(const AttentionShape& shape, const KvLayout& layout, const Query& query) {
  const BlockShape block_shape{shape.block_tokens, shape.head_dim};
  const std::uint32_t end = query.position + 1;
  const std::uint32_t begin = shape.window != 0 && end > shape.window ? end - shape.window : 0;
  const auto block = [&](std::uint32_t row) {
    const std::uint32_t index = row / shape.block_tokens - query.cached.first_block;
    return layout.pool + to_offset(query.cached.blocks[index]);
  };

  std::vector<float> row(shape.head_dim);
  std::vector<double> weights;
  for (std::uint32_t t = begin; t < end; ++t) {
    layout.k->read_k(block(t), t % shape.block_tokens, block_shape, row.data());
    double score = 0;
    for (std::uint32_t c = 0; c < shape.head_dim; ++c) score += double{query.q[c]} * row[c];
    score *= shape.scale;
    if (shape.soft_cap != 0) score = shape.soft_cap * std::tanh(score / shape.soft_cap);
    weights.push_back(score);
  }

  const double max = *std::max_element(weights.begin(), weights.end());
  double sum = 0;
  for (double& weight : weights) sum += weight = std::exp(weight - max);

  std::vector<double> out(shape.head_dim);
  for (std::uint32_t t = begin; t < end; ++t) {
    layout.v->read_v(block(t) + layout.v_offset, t % shape.block_tokens, block_shape, row.data());
    for (std::uint32_t c = 0; c < shape.head_dim; ++c) out[c] += weights[t - begin] / sum * row[c];
  }
  std::transform(out.begin(), out.end(), query.out, [](double x) { return static_cast<float>(x); });
}

}  // namespace

void attend(const AttentionShape& shape, const KvLayout& layout,
            std::span<const AttentionItem> items, const float* q, float* out) {
  const std::uint32_t group = shape.n_heads / shape.n_kv_heads;
  for (const AttentionItem& item : items) {
    for (std::uint32_t r = 0; r < item.n_rows; ++r) {
      for (std::uint32_t head = 0; head < shape.n_heads; ++head) {
        const std::size_t at =
            (std::size_t{item.first_row + r} * shape.n_heads + head) * shape.head_dim;
        attend_one(shape, layout, {q + at, item.n_past + r, item.heads[head / group], out + at});
      }
    }
  }
}

}  // namespace larder::reference
