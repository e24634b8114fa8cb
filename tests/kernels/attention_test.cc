#include "kernels/attention.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

#include "kernels/attention_cache.h"
#include "kernels/reference/attention.h"
#include "kernels/shared_blocks.h"

namespace larder {
namespace {

constexpr KvFormat kFormats[] = {KvFormat::f32, KvFormat::f16, KvFormat::bf16};

void reference_attend(const Compute&, const AttentionShape& shape, const KvLayout& layout,
                      std::span<const AttentionItem> items, const float* q, float* out,
                      AttentionScratch&) {
  reference::attend(shape, layout, items, q, out);
}

AttentionShape random_shape(std::mt19937& rng) {
  const auto pick = [&](std::initializer_list<std::uint32_t> values) {
    return values.begin()[rng() % values.size()];
  };
  AttentionShape shape{};
  shape.n_kv_heads = pick({1, 2, 3});
  shape.n_heads = shape.n_kv_heads * pick({1, 2, 4, 7, 8});
  shape.head_dim = pick({8, 16, 64, 80});
  shape.block_tokens = pick({16, 32, 64, 128});
  shape.window = pick({0, 0, 1, 5, 100, 512, 700});
  shape.scale = 1 / std::sqrt(static_cast<float>(shape.head_dim));
  shape.soft_cap = rng() % 3 == 0 ? 5.0F : 0.0F;
  return shape;
}

std::string describe(const AttentionShape& s) {
  return fmt::format("{}/{} heads of {}, blocks of {}, window {}, cap {}", s.n_heads, s.n_kv_heads,
                     s.head_dim, s.block_tokens, s.window, s.soft_cap);
}

bool same_bits(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
  });
}

TEST(Attention, AgreesWithTheReferenceOverRaggedBatches) {
  ThreadPool pool(2);
  for (std::uint32_t seed = 0; seed < 8; ++seed) {
    std::mt19937 rng(seed);
    const AttentionShape shape = random_shape(rng);
    SCOPED_TRACE(testing::Message() << "seed " << seed << ": " << describe(shape));
    const AttentionCase c = make_case(shape, kFormats[rng() % 3], kFormats[rng() % 3],
                                      {1 + static_cast<std::uint32_t>(rng() % 600), 33, 1}, rng);
    const Schedule schedule = random_schedule(c, 200, rng);
    PagedCache expected(c, rng);
    expected.run(schedule, {simd::scalar_table(), pool}, reference_attend);
    for (const simd::Table* table : simd::available()) {
      PagedCache cache(c, rng);
      cache.run(schedule, {*table, pool}, attend);
      const bool rounds = table->rounds_bf16 && (c.k == KvFormat::bf16 || c.v == KvFormat::bf16);
      const double tolerance = rounds ? 1e-2 : 2e-5;  // 2^-8 of values of up to 3
      for (std::size_t s = 0; s < c.lengths.size(); ++s) {
        for (std::size_t i = 0; i < cache.out()[s].size(); ++i) {
          ASSERT_NEAR(cache.out()[s][i], expected.out()[s][i], tolerance)
              << table->name << " sequence " << s << " element " << i;
        }
      }
    }
  }
}

// Invariant 3: scheduling changes nothing. Lengths span several runs; chunks, company, order of the
// batch, place of the blocks and number of threads are random.
TEST(Attention, BitsDependOnPositionAlone) {
  ThreadPool one(1), two(2), three(3);
  for (std::uint32_t seed = 100; seed < 106; ++seed) {
    std::mt19937 rng(seed);
    AttentionShape shape = random_shape(rng);
    shape.n_heads = shape.n_kv_heads * (1 + seed % 4);
    shape.head_dim = seed % 2 == 0 ? 8 : 20;
    SCOPED_TRACE(testing::Message() << "seed " << seed << ": " << describe(shape));
    const AttentionCase c =
        make_case(shape, kFormats[rng() % 3], kFormats[rng() % 3],
                  {1025 + static_cast<std::uint32_t>(rng() % 200), 517, 40}, rng);
    const Schedule whole = {{{0, c.lengths[0]}}, {{1, c.lengths[1]}}, {{2, c.lengths[2]}}};
    const simd::Table* const table = simd::available()[seed % simd::available().size()];
    PagedCache expected(c, rng);
    expected.run(whole, {*table, one}, attend);
    for (const std::uint32_t max_chunk : {9U, 60U, 700U}) {
      ThreadPool* const pools[] = {&one, &two, &three};
      PagedCache cache(c, rng);
      cache.run(random_schedule(c, max_chunk, rng), {*table, *pools[rng() % 3]}, attend);
      ASSERT_TRUE(same_bits(cache.out(), expected.out())) << table->name << " " << max_chunk;
    }
  }
}

TEST(Attention, ASingleLongContextIsSplitOverThreadsWithTheSameBits) {
  ThreadPool one(1), two(2);
  std::mt19937 rng(5);
  // The last window has queries of one tile that see the first run and others that do not.
  for (const std::uint32_t window : {0U, 1500U, 1072U}) {
    const AttentionShape shape{2, 1, 16, 32, window, 0.25F, 0};
    const AttentionCase c = make_case(shape, KvFormat::bf16, KvFormat::f16, {2100}, rng);
    const Schedule schedule = {{{0, 2090}}, {{0, 1}}, {{0, 1}}, {{0, 8}}};
    PagedCache a(c, rng), b(c, rng);
    a.run(schedule, {simd::best(), one}, attend);
    b.run(schedule, {simd::best(), two}, attend);
    EXPECT_TRUE(same_bits(a.out(), b.out())) << "window " << window;
  }
}

// Blocks shared by some or all of the sequences are read for all of them together: the same bits as
// when each has its own copy and runs alone.
TEST(Attention, SharedBlocksChangeNothing) {
  for (std::uint32_t seed = 200; seed < 206; ++seed) {
    std::mt19937 rng(seed);
    AttentionShape shape = random_shape(rng);
    shape.head_dim = seed % 2 == 0 ? 16 : 24;
    const std::uint32_t n_shared = 128 * std::array{1U, 4U, 6U}[seed % 3];
    SCOPED_TRACE(testing::Message()
                 << "seed " << seed << ": " << describe(shape) << ", shared " << n_shared);
    std::vector<std::uint32_t> lengths;
    for (int s = 0; s < 5; ++s)
      lengths.push_back(n_shared + 1 + static_cast<std::uint32_t>(rng() % 7));
    const AttentionCase c =
        make_case(shape, kFormats[rng() % 3], kFormats[rng() % 3], lengths, rng);
    const auto tables = simd::available();
    expect_sharing_changes_nothing(c, n_shared, *tables[seed % tables.size()], rng);
  }
}

TEST(Attention, WithoutRoomForPartialStatesItIsTheSame) {
  ThreadPool two(2);
  std::mt19937 rng(6);
  const AttentionShape shape{2, 1, 8, 16, 0, 0.3F, 0};
  const AttentionCase c = make_case(shape, KvFormat::f32, KvFormat::f32, {2000}, rng);
  const Schedule schedule = {{{0, 1999}}, {{0, 1}}};
  const auto attend_cramped = [](const Compute& compute, const AttentionShape& s,
                                 const KvLayout& layout, std::span<const AttentionItem> items,
                                 const float* q, float* out, AttentionScratch&) {
    AttentionScratch cramped(s, compute.pool.n_threads(), 2000, 0, 1);
    attend(compute, s, layout, items, q, out, cramped);
  };
  PagedCache a(c, rng), b(c, rng);
  a.run(schedule, {simd::best(), two}, attend);
  b.run(schedule, {simd::best(), two}, attend_cramped);
  EXPECT_TRUE(same_bits(a.out(), b.out()));
}

TEST(Attention, OneScratchServesLayersThatDiffer) {
  ThreadPool two(2);
  std::mt19937 rng(8);
  const AttentionShape local{4, 2, 16, 32, 40, 0.25F, 30.0F};
  AttentionShape global = local;
  global.window = 0;
  global.soft_cap = 0;
  AttentionScratch scratch(global, 2, 600, 600, 1);
  const auto attend_shared = [&](const Compute& compute, const AttentionShape& s,
                                 const KvLayout& layout, std::span<const AttentionItem> items,
                                 const float* q, float* out, AttentionScratch&) {
    attend(compute, s, layout, items, q, out, scratch);
  };
  for (const AttentionShape& shape : {local, global, local}) {
    const AttentionCase c = make_case(shape, KvFormat::bf16, KvFormat::bf16, {600}, rng);
    PagedCache a(c, rng), b(c, rng);
    a.run({{{0, 600}}}, {simd::best(), two}, attend);
    b.run({{{0, 300}}, {{0, 300}}}, {simd::best(), two}, attend_shared);
    EXPECT_TRUE(same_bits(a.out(), b.out()));
  }
}

TEST(Attention, AnEmptyBatchDoesNothing) {
  ThreadPool two(2);
  const AttentionShape shape{2, 1, 8, 16, 0, 1.0F, 0};
  const KvLayout layout{nullptr, &kv_codec(KvFormat::bf16), &kv_codec(KvFormat::bf16), 0};
  AttentionScratch scratch(shape, 2, 1, 1, 1);
  append_rows({simd::best(), two}, shape, layout, {}, nullptr, nullptr);
  attend({simd::best(), two}, shape, layout, {}, nullptr, nullptr, scratch);
}

constexpr float kInf = std::numeric_limits<float>::infinity();

TEST(AttentionState, TheEmptySetIsNeutralToTheBit) {
  float value[2] = {0.1F, -3.0F}, nothing[2] = {0, 0};
  AttentionState state{1.7F, 2.3F, value};
  merge_state(state, {-kInf, 0, nothing}, 2);
  EXPECT_EQ(state.max, 1.7F);
  EXPECT_EQ(state.sum, 2.3F);
  EXPECT_EQ(value[0], 0.1F);
  EXPECT_EQ(value[1], -3.0F);
  AttentionState empty{-kInf, 0, nothing};
  merge_state(empty, state, 2);
  EXPECT_EQ(empty.max, 1.7F);
  EXPECT_EQ(empty.sum, 2.3F);
  EXPECT_EQ(nothing[0], 0.1F);
  EXPECT_EQ(nothing[1], -3.0F);
  float still[2] = {0, 0};
  AttentionState both{-kInf, 0, still};
  merge_state(both, {-kInf, 0, still}, 2);
  EXPECT_EQ(both.max, -kInf);
  EXPECT_EQ(both.sum, 0);
}

TEST(AttentionState, MergingPartsGivesTheWhole) {
  std::mt19937 rng(3);
  std::normal_distribution<float> normal(0, 20);  // maxima far apart: weights over- and underflow
  for (int round = 0; round < 50; ++round) {
    std::vector<float> scores(60), values(60);
    for (float& x : scores) x = normal(rng);
    for (float& x : values) x = normal(rng);
    const auto state_of = [&](std::size_t begin, std::size_t end, float* out) {
      const float max = *std::max_element(scores.begin() + begin, scores.begin() + end);
      AttentionState state{max, 0, out};
      *out = 0;
      for (std::size_t i = begin; i < end; ++i) {
        state.sum += std::exp(scores[i] - max);
        *out += std::exp(scores[i] - max) * values[i];
      }
      return state;
    };
    float whole_out, a_out, b_out;
    const AttentionState whole = state_of(0, 60, &whole_out);
    AttentionState a = state_of(0, 23, &a_out);
    merge_state(a, state_of(23, 60, &b_out), 1);
    EXPECT_EQ(a.max, whole.max);
    EXPECT_NEAR(a.sum, whole.sum, 1e-5 * whole.sum);
    EXPECT_NEAR(a_out / a.sum, whole_out / whole.sum, 2e-4);
  }
}

}  // namespace
}  // namespace larder
