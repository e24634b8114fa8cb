// KV heads of a layer that hold different numbers of rows.
#include <gtest/gtest.h>

#include <array>
#include <random>
#include <vector>

#include "kernels/cached_rows.h"
#include "kernels/plain_attention.h"

namespace larder {
namespace {

constexpr std::uint32_t kHeads = 6, kKvHeads = 2, kDim = 16;

struct Case {
  std::uint32_t n_past, n_rows, block_tokens;
  std::array<std::uint32_t, kKvHeads> n_fewer;
};

/// The rows of before are written, those of the step appended; both heads attend.
void check(const Case& c, const simd::Table& table, unsigned n_threads, std::mt19937& random) {
  ThreadPool threads(n_threads);
  const Compute compute{table, threads};
  const AttentionShape shape{.n_heads = kHeads,
                             .n_kv_heads = kKvHeads,
                             .head_dim = kDim,
                             .block_tokens = c.block_tokens,
                             .scale = 0.25F};
  CachedRows cache(KvFormat::f32, KvFormat::f32, {c.block_tokens, kDim}, kKvHeads,
                   c.n_past + c.n_rows);
  std::vector<KvRows> heads(cache.heads().begin(), cache.heads().end());
  for (std::uint32_t h = 0; h < kKvHeads; ++h) {
    heads[h].n_fewer = c.n_fewer[h];
    for (std::uint32_t row = 0; row < c.n_past - c.n_fewer[h]; ++row) {
      cache.write(h, row, random_floats(kDim, random).data(), random_floats(kDim, random).data());
    }
  }
  const auto k = random_floats(std::size_t{c.n_rows} * kKvHeads * kDim, random);
  const auto v = random_floats(k.size(), random);
  const auto q = random_floats(std::size_t{c.n_rows} * kHeads * kDim, random);
  const AttentionItem item{0, c.n_rows, c.n_past, heads};
  append_rows(compute, shape, cache.layout(), std::span(&item, 1), k.data(), v.data());
  AttentionScratch scratch(shape, n_threads, c.n_rows, c.n_past + c.n_rows, 1);
  std::vector<float> out(q.size());
  attend(compute, shape, cache.layout(), std::span(&item, 1), q.data(), out.data(), scratch);
  std::vector<float> scaled(q);
  for (float& x : scaled) x *= shape.scale;
  for (std::uint32_t row = 0; row < c.n_rows; ++row) {
    for (std::uint32_t h = 0; h < kKvHeads; ++h) {
      const float* appended = k.data() + (std::size_t{row} * kKvHeads + h) * kDim;
      ASSERT_EQ(cache.key(h, c.n_past - c.n_fewer[h] + row),
                std::vector<float>(appended, appended + kDim));
    }
    for (std::uint32_t head = 0; head < kHeads; ++head) {
      const std::uint32_t h = head / (kHeads / kKvHeads);
      const float* of = scaled.data() + (std::size_t{row} * kHeads + head) * kDim;
      const auto expected =
          attend_plainly(cache, h, c.n_past - c.n_fewer[h] + row + 1, {of, of, 0});
      const float* got = out.data() + (std::size_t{row} * kHeads + head) * kDim;
      for (std::uint32_t d = 0; d < kDim; ++d) {
        ASSERT_NEAR(double{got[d]}, expected[d], 2e-5) << "row " << row << ", head " << head;
      }
    }
  }
}

TEST(UnevenHeads, EachHeadSeesItsOwnRows) {
  std::mt19937 random(14);
  for (const simd::Table* table : simd::available()) {
    SCOPED_TRACE(table->name);
    for (const Case& c :
         {Case{100, 1, 16, {0, 37}}, Case{90, 30, 32, {90, 0}}, Case{540, 20, 16, {0, 533}},
          Case{1700, 1, 64, {1650, 0}}, Case{1200, 40, 128, {5, 700}}}) {
      for (const unsigned n_threads : {1U, 2U}) check(c, *table, n_threads, random);
    }
  }
}

}  // namespace
}  // namespace larder
