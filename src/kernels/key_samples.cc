#include "kernels/key_samples.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"
#include "kernels/block_choice.h"
#include "tensor/half.h"

namespace larder {
namespace {

using Row = std::array<float, simd::kMaxHeadDim>;

void store(const float* from, std::size_t n, std::byte* to) {
  for (std::size_t c = 0; c < n; ++c) {
    const std::uint16_t half = f32_to_bf16(from[c]);
    std::memcpy(to + c * sizeof half, &half, sizeof half);
  }
}

// One item's rows of one KV head.
struct Samples {
  const AttentionShape& shape;
  const KvLayout& layout;
  const AttentionItem& item;
  const SampleRule& rule;
  std::uint32_t head;
  const float* q;

  std::byte* block(std::uint32_t b) const {
    return layout.pool + to_offset(item.heads[head].blocks[b]);
  }
  std::byte* sample(std::uint32_t b) const {
    return block(b) + layout.marks_offset + 2 * std::size_t{shape.head_dim};
  }
  bool has_marks(std::uint32_t b) const { return !layout.seals() || !layout.is_raw(b); }

  void write_sample(std::uint32_t b) const {
    const std::size_t d = shape.head_dim, group = shape.n_heads / shape.n_kv_heads;
    const std::size_t row = item.first_row + (b + 1) * shape.block_tokens - 1 - item.n_past;
    const float* from = q + (row * shape.n_heads + head * group) * d;
    Row sum;
    std::copy_n(from, d, sum.begin());
    for (std::size_t i = 1; i < group; ++i) {
      for (std::size_t c = 0; c < d; ++c) sum[c] += from[i * d + c];
    }
    store(sum.data(), d, sample(b));
  }

  void write_representatives(const simd::Table& simd, std::uint32_t b) const {
    const std::size_t d = shape.head_dim;
    const std::uint32_t past = b - rule.n_local;
    if (!has_marks(past)) return;
    Row local{}, key, sum{};
    for (std::uint32_t i = past + 1; i <= b; ++i) add_sample(sample(i), d, local.data());
    std::array<float, kMaxBlockTokens> scores;
    std::array<std::uint32_t, kMaxBlockTokens> work, best;
    const BlockShape of{shape.block_tokens, shape.head_dim};
    for (std::uint32_t t = 0; t < shape.block_tokens; ++t) {
      layout.k->read_k(block(past), t, of, key.data());
      scores[t] = simd.dot(local.data(), key.data(), d);
    }
    const auto n = std::min(rule.n_representatives, shape.block_tokens);
    select_greatest(std::span(scores).first(shape.block_tokens),
                    std::span(work).first(shape.block_tokens), std::span(best).first(n));
    for (std::uint32_t i = 0; i < n; ++i) {
      layout.k->read_k(block(past), best[i], of, key.data());
      for (std::size_t c = 0; c < d; ++c) sum[c] += key[c];
    }
    store(sum.data(), d, block(b) + layout.marks_offset);
  }

  void run(const simd::Table& simd) const {
    const std::uint32_t end = (item.n_past + item.n_rows) / shape.block_tokens;
    for (std::uint32_t b = item.n_past / shape.block_tokens; b < end; ++b) {
      if (!has_marks(b)) continue;
      write_sample(b);
      if (b >= rule.n_local) write_representatives(simd, b);
    }
  }
};

}  // namespace

void add_sample(const std::byte* sample, std::size_t head_dim, float* to) {
  for (std::size_t c = 0; c < head_dim; ++c) {
    std::uint16_t half = 0;
    std::memcpy(&half, sample + c * sizeof half, sizeof half);
    to[c] += bf16_to_f32(half);
  }
}

void write_key_samples(const Compute& compute, const AttentionShape& shape, const KvLayout& layout,
                       std::span<const AttentionItem> items, const float* q,
                       const SampleRule& rule) {
  LARDER_DCHECK(layout.marks == BlockMarks::samples && rule.n_local > 0);
  compute.pool.for_each(items.size() * shape.n_kv_heads, [&](std::size_t task, unsigned) {
    const auto head = static_cast<std::uint32_t>(task % shape.n_kv_heads);
    Samples{shape, layout, items[task / shape.n_kv_heads], rule, head, q}.run(compute.simd);
  });
}

}  // namespace larder
