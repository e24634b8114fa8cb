// Queries that meet the first rows of a sequence otherwise than the rest (StreamingLLM).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "kernels/cached_rows.h"

namespace larder {
namespace {

constexpr std::uint32_t kHeads = 6, kKvHeads = 2, kDim = 16;

struct Case {
  std::uint32_t n_past, n_rows, n_sinks, block_tokens;
};

/// softmax(scores) V of one query head, in double.
std::vector<double> attend_plainly(const CachedRows& cache, std::uint32_t kv_head,
                                   std::uint32_t n_seen, std::uint32_t n_sinks, const float* q,
                                   const float* sink_q) {
  std::vector<double> scores(n_seen), out(kDim, 0.0);
  double max = -1e300, sum = 0;
  for (std::uint32_t row = 0; row < n_seen; ++row) {
    const std::vector<float> key = cache.key(kv_head, row);
    const float* of = row < n_sinks ? sink_q : q;
    for (std::uint32_t c = 0; c < kDim; ++c) scores[row] += double{of[c]} * double{key[c]};
    max = std::max(max, scores[row]);
  }
  for (double& s : scores) sum += s = std::exp(s - max);
  for (std::uint32_t row = 0; row < n_seen; ++row) {
    const std::vector<float> value = cache.value(kv_head, row);
    for (std::uint32_t c = 0; c < kDim; ++c) out[c] += scores[row] / sum * double{value[c]};
  }
  return out;
}

void check(const Case& c, const simd::Table& table, unsigned n_threads, std::mt19937& random) {
  ThreadPool threads(n_threads);
  const Compute compute{table, threads};
  const AttentionShape shape{.n_heads = kHeads,
                             .n_kv_heads = kKvHeads,
                             .head_dim = kDim,
                             .block_tokens = c.block_tokens,
                             .scale = 0.25F};
  const std::uint32_t n = c.n_past + c.n_rows;
  CachedRows cache(KvFormat::f32, KvFormat::f32, {c.block_tokens, kDim}, kKvHeads, n);
  for (std::uint32_t h = 0; h < kKvHeads; ++h) {
    for (std::uint32_t row = 0; row < n; ++row) {
      cache.write(h, row, random_floats(kDim, random).data(), random_floats(kDim, random).data());
    }
  }
  const std::size_t row_floats = std::size_t{kHeads} * kDim;
  const auto q = random_floats(c.n_rows * row_floats, random);
  const auto sink_q = random_floats(c.n_rows * row_floats, random);
  AttentionItem item{0, c.n_rows, c.n_past, cache.heads()};
  item.sink_q = sink_q.data();
  item.n_sinks = c.n_sinks;
  AttentionScratch scratch(shape, n_threads, c.n_rows, n, 1);
  std::vector<float> out(q.size());
  attend(compute, shape, cache.layout(), std::span(&item, 1), q.data(), out.data(), scratch);
  std::vector<float> scaled(q);
  for (float& x : scaled) x *= shape.scale;
  for (std::uint32_t row = 0; row < c.n_rows; ++row) {
    for (std::uint32_t head = 0; head < kHeads; ++head) {
      const std::size_t at = row * row_floats + head * kDim;
      const auto expected = attend_plainly(cache, head / (kHeads / kKvHeads), c.n_past + row + 1,
                                           c.n_sinks, scaled.data() + at, sink_q.data() + at);
      for (std::uint32_t d = 0; d < kDim; ++d) {
        ASSERT_NEAR(double{out[at + d]}, expected[d], 2e-5) << "row " << row << ", head " << head;
      }
    }
  }
}

TEST(SinkAttention, EqualsTheFormula) {
  std::mt19937 random(12);
  for (const simd::Table* table : simd::available()) {
    SCOPED_TRACE(table->name);
    for (const Case& c : {Case{100, 1, 4, 16}, Case{0, 40, 4, 16}, Case{3, 20, 128, 32},
                          Case{600, 1, 33, 32}, Case{1100, 30, 5, 128}}) {
      for (const unsigned n_threads : {1U, 2U}) check(c, *table, n_threads, random);
    }
  }
}

}  // namespace
}  // namespace larder
