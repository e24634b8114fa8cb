// Queries that meet the first rows of a sequence otherwise than the rest (StreamingLLM).
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "kernels/cached_rows.h"
#include "kernels/plain_attention.h"

namespace larder {
namespace {

constexpr std::uint32_t kHeads = 6, kKvHeads = 2, kDim = 16;

struct Case {
  std::uint32_t n_past, n_rows, n_sinks, block_tokens;
  bool apart = false;  // each sink has its query
};

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
  const std::size_t n_sink_q = c.apart ? c.n_sinks : 1;
  const auto sink_q = random_floats(c.n_rows * n_sink_q * row_floats, random);
  AttentionItem item{0, c.n_rows, c.n_past, cache.heads()};
  item.sink_q = sink_q.data();
  item.n_sinks = c.n_sinks;
  item.each_sink_apart = c.apart;
  AttentionScratch scratch(shape, n_threads, c.n_rows, n, 1);
  std::vector<float> out(q.size());
  attend(compute, shape, cache.layout(), std::span(&item, 1), q.data(), out.data(), scratch);
  std::vector<float> scaled(q);
  for (float& x : scaled) x *= shape.scale;
  for (std::uint32_t row = 0; row < c.n_rows; ++row) {
    for (std::uint32_t head = 0; head < kHeads; ++head) {
      const std::size_t at = row * row_floats + head * kDim;
      const auto expected = attend_plainly(
          cache, head / (kHeads / kKvHeads), c.n_past + row + 1,
          {scaled.data() + at, sink_q.data() + at + row * (n_sink_q - 1) * row_floats, c.n_sinks,
           c.apart ? row_floats : 0});
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
                          Case{600, 1, 33, 32}, Case{1100, 30, 5, 128}, Case{90, 7, 20, 16, true},
                          Case{0, 30, 9, 32, true}, Case{700, 2, 128, 64, true}}) {
      for (const unsigned n_threads : {1U, 2U}) check(c, *table, n_threads, random);
    }
  }
}

}  // namespace
}  // namespace larder
