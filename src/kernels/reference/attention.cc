#include "kernels/reference/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/turned_keys.h"

namespace larder::reference {
namespace {

// The rows of one KV head of an item, decoded: as sealed blocks have them, and as open ones do.
class Rows {
 public:
  Rows(const AttentionShape& shape, const KvLayout& layout, const AttentionItem& item,
       std::uint32_t head)
      : shape_(shape), block_{shape.block_tokens, shape.head_dim} {
    const KvRows& cached = item.heads[head];
    const std::uint32_t end = item.n_past + item.n_rows;
    first_ = cached.first_block * shape.block_tokens;
    const std::size_t n = std::size_t{end - first_} * shape.head_dim;
    for (auto* rows : {&k_, &v_, &open_k_, &open_v_}) rows->resize(n);
    for (std::uint32_t t = first_; t < end; ++t) {
      const std::uint32_t index = t / shape.block_tokens - cached.first_block;
      if (index >= cached.blocks.size()) break;
      const std::byte* block = layout.pool + to_offset(cached.blocks[index]);
      const bool is_open = layout.seals() && layout.is_raw(t / shape.block_tokens);
      const KvCodec& k = is_open ? *layout.open_k : *layout.k;
      const KvCodec& v = is_open ? *layout.open_v : *layout.v;
      const std::byte* v_part = block + (is_open ? layout.open_v_offset : layout.v_offset);
      if (k.before_rope == nullptr) {
        k.read_k(block, t % shape.block_tokens, block_, at(k_, t));
      } else {
        if (t % shape.block_tokens == 0) turn_block(layout, block, {head, t / shape.block_tokens});
        kv_codec(KvFormat::bf16).read_k(turned_.data(), t % shape.block_tokens, block_, at(k_, t));
      }
      v.read_v(v_part, t % shape.block_tokens, block_, at(v_, t));
    }
    seals_ = layout.seals();
    const std::uint32_t begin = item.n_past / shape.block_tokens * shape.block_tokens;
    for (std::uint32_t t = begin; seals_ && t < end; ++t) {
      const std::byte* block = open_block(
          layout, item, {head, shape.n_kv_heads, t / shape.block_tokens, shape.block_tokens});
      const std::uint32_t row = t % shape.block_tokens;
      layout.open_k->read_k(block, row, block_, at(open_k_, t));
      layout.open_v->read_v(block + layout.open_v_offset, row, block_, at(open_v_, t));
    }
  }
  // Row t as the query at `position` sees it.
  const float* k(std::uint32_t t, std::uint32_t position) {
    return at(is_open(t, position) ? open_k_ : k_, t);
  }
  const float* v(std::uint32_t t, std::uint32_t position) {
    return at(is_open(t, position) ? open_v_ : v_, t);
  }

 private:
  void turn_block(const KvLayout& layout, const std::byte* part, const KeyPlace& place) {
    turned_.resize(std::size_t{block_.block_tokens} * block_.head_dim * 2);
    decode_keys(simd::scalar_table(), key_coding(layout, block_.head_dim, place), part, block_,
                turned_.data());
  }
  bool is_open(std::uint32_t t, std::uint32_t position) const {
    return seals_ && t / shape_.block_tokens == position / shape_.block_tokens;
  }
  float* at(std::vector<float>& rows, std::uint32_t t) {
    return rows.data() + std::size_t{t - first_} * shape_.head_dim;
  }
  const AttentionShape& shape_;
  const BlockShape block_;
  std::uint32_t first_ = 0;
  bool seals_ = false;
  std::vector<float> k_, v_, open_k_, open_v_;
  std::vector<std::byte> turned_;  // a block of keys that were stored as they were before rope
};

void attend_one(const AttentionShape& shape, Rows& rows, const float* q, std::uint32_t position,
                float* to) {
  const std::uint32_t end = position + 1;
  const std::uint32_t begin = shape.window != 0 && end > shape.window ? end - shape.window : 0;
  std::vector<double> weights;
  for (std::uint32_t t = begin; t < end; ++t) {
    const float* row = rows.k(t, position);
    double score = 0;
    for (std::uint32_t c = 0; c < shape.head_dim; ++c) score += double{q[c]} * row[c];
    score *= shape.scale;
    if (shape.soft_cap != 0) score = shape.soft_cap * std::tanh(score / shape.soft_cap);
    weights.push_back(score);
  }

  const double max = *std::max_element(weights.begin(), weights.end());
  double sum = 0;
  for (double& weight : weights) sum += weight = std::exp(weight - max);

  std::vector<double> out(shape.head_dim);
  for (std::uint32_t t = begin; t < end; ++t) {
    const float* row = rows.v(t, position);
    for (std::uint32_t c = 0; c < shape.head_dim; ++c) out[c] += weights[t - begin] / sum * row[c];
  }
  std::transform(out.begin(), out.end(), to, [](double x) { return static_cast<float>(x); });
}

}  // namespace

void attend(const AttentionShape& shape, const KvLayout& layout,
            std::span<const AttentionItem> items, const float* q, float* out) {
  const std::uint32_t group = shape.n_heads / shape.n_kv_heads;
  for (const AttentionItem& item : items) {
    for (std::uint32_t head = 0; head < shape.n_heads; ++head) {
      Rows rows(shape, layout, item, head / group);
      for (std::uint32_t r = 0; r < item.n_rows; ++r) {
        const std::size_t at =
            (std::size_t{item.first_row + r} * shape.n_heads + head) * shape.head_dim;
        attend_one(shape, rows, q + at, item.n_past + r, out + at);
      }
    }
  }
}

}  // namespace larder::reference
