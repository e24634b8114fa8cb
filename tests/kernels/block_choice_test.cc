// Queries that choose the blocks they read: what they choose, and what comes of it.
#include "kernels/block_choice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/chooser.h"
#include "kernels/key_bounds.h"
#include "tensor/half.h"

namespace larder {
namespace {

std::vector<std::uint32_t> greatest(std::span<const float> scores, std::size_t n) {
  std::vector<std::uint32_t> work(scores.size()), out(n);
  select_greatest(scores, work, out);
  return out;
}

TEST(SelectGreatest, TakesThoseInFrontOfEqualOnes) {
  using Places = std::vector<std::uint32_t>;
  EXPECT_EQ(greatest(std::vector<float>{3, 1, 2}, 2), (Places{0, 2}));
  EXPECT_EQ(greatest(std::vector<float>{5, 5, 5, 5}, 3), (Places{0, 1, 2}));
  EXPECT_EQ(greatest(std::vector<float>{-1, -3, -1, 0, -1}, 3), (Places{0, 2, 3}));
  EXPECT_EQ(greatest(std::vector<float>{-2}, 1), (Places{0}));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(greatest(std::vector<float>{1, nan, 2, -nan, nan, 7}, 3), (Places{1, 4, 5}));
}

TEST(SelectGreatest, AgreesWithSorting) {
  std::mt19937 random(51);
  for (int round = 0; round < 200; ++round) {
    std::vector<float> scores(1 + random() % 300);
    for (float& s : scores) s = static_cast<float>(random() % 50) - 25.0F;
    const std::size_t n = 1 + random() % scores.size();
    std::vector<std::uint32_t> expected(scores.size());
    std::iota(expected.begin(), expected.end(), 0U);
    std::stable_sort(expected.begin(), expected.end(),
                     [&](std::uint32_t a, std::uint32_t b) { return scores[a] > scores[b]; });
    expected.resize(n);
    std::sort(expected.begin(), expected.end());
    ASSERT_EQ(greatest(scores, n), expected);
  }
}

TEST(BlockRule, CountsBlocksOfAllThatIsCached) {
  const BlockRule eight{.n_blocks = 8};
  EXPECT_EQ(eight.n_chosen(0), 0U);
  EXPECT_EQ(eight.n_chosen(7), 7U);
  EXPECT_EQ(eight.n_chosen(500), 7U);
  const BlockRule quarter{.share = 0.25, .n_least = 3};
  EXPECT_EQ(quarter.n_chosen(1), 1U);
  EXPECT_EQ(quarter.n_chosen(5), 2U);
  EXPECT_EQ(quarter.n_chosen(99), 24U);   // of 100
  EXPECT_EQ(quarter.n_chosen(100), 25U);  // of 101, rounded up
  EXPECT_TRUE(BlockRule{}.reads_all());
  EXPECT_FALSE(quarter.reads_all());
}

TEST(KeyBounds, AreRoundedOutwards) {
  for (const KvFormat format : {KvFormat::f32, KvFormat::f16, KvFormat::bf16}) {
    const KvCodec& codec = kv_codec(format);
    const BlockShape shape{16, 6};
    std::mt19937 random(52);
    std::normal_distribution<float> normal;
    std::vector<std::byte> k(codec.k_bytes(shape)), bounds(block_marks_bytes(6));
    std::vector<float> row(6), high(6, -1e30F), low(6, 1e30F);
    for (std::uint32_t t = 0; t < 16; ++t) {
      for (float& x : row) x = normal(random);
      codec.append_k(row.data(), t, shape, k.data());
      codec.read_k(k.data(), t, shape, row.data());
      for (std::size_t c = 0; c < 6; ++c) {
        high[c] = std::max(high[c], row[c]);
        low[c] = std::min(low[c], row[c]);
      }
    }
    write_key_bounds(codec, k.data(), shape, bounds.data());
    std::array<std::uint16_t, 12> halves;
    std::memcpy(halves.data(), bounds.data(), sizeof halves);
    for (std::size_t c = 0; c < 6; ++c) {
      const float above = bf16_to_f32(halves[c]), below = bf16_to_f32(halves[6 + c]);
      EXPECT_GE(above, high[c]);
      EXPECT_LE(above - high[c], std::abs(high[c]) / 128);
      EXPECT_LE(below, low[c]);
      EXPECT_LE(low[c] - below, std::abs(low[c]) / 128);
      if (format == KvFormat::bf16) {
        EXPECT_EQ(above, high[c]);
        EXPECT_EQ(below, low[c]);
      }
    }
  }
}

/// Of a query and KV head, from the paper: for each block before its own the most that any query of
/// the group gets from the extremes of its keys.
std::vector<double> plain_scores(const BlockChoice::Call& call, const AttentionItem& item,
                                 std::uint32_t row, std::uint32_t kv_head) {
  const AttentionShape& shape = call.shape;
  const std::uint32_t n = shape.block_tokens, group = shape.n_heads / shape.n_kv_heads;
  const std::size_t d = shape.head_dim;
  std::vector<double> scores;
  for (std::uint32_t b = 0; b < (item.n_past + row) / n; ++b) {
    std::vector<float> high(d, -1e30F), low(d, 1e30F), key(d);
    const std::byte* block = call.layout.pool + to_offset(item.heads[kv_head].blocks[b]);
    for (std::uint32_t t = 0; t < n; ++t) {
      call.layout.k->read_k(block, t, {n, shape.head_dim}, key.data());
      for (std::size_t c = 0; c < d; ++c) {
        high[c] = std::max(high[c], key[c]);
        low[c] = std::min(low[c], key[c]);
      }
    }
    double most = -1e300;
    for (std::uint32_t g = 0; g < group; ++g) {
      const std::size_t head = std::size_t{kv_head} * group + g;
      const float* q = call.q + ((item.first_row + row) * std::size_t{shape.n_heads} + head) * d;
      double sum = 0;
      for (std::size_t c = 0; c < d; ++c) {
        sum += std::max(double{q[c]} * double{high[c]}, double{q[c]} * double{low[c]});
      }
      most = std::max(most, sum);
    }
    scores.push_back(most);
  }
  return scores;
}

/// The chosen blocks are the first ones, and of the others those with the greatest scores.
void check_choice(const BlockChoice::Call& call, const AttentionItem& item, std::uint32_t row,
                  const AttentionItem& chosen, const BlockRule& rule) {
  const std::uint32_t n = call.shape.block_tokens, own = (item.n_past + row) / n;
  ASSERT_EQ(chosen.n_past, rule.n_chosen(own) * n + (item.n_past + row) % n);
  for (std::uint32_t head = 0; head < call.shape.n_kv_heads; ++head) {
    const auto all = item.heads[head].blocks;
    const auto list = chosen.heads[head].blocks;
    ASSERT_EQ(list.size(), rule.n_chosen(own) + 1);
    EXPECT_EQ(list.back(), all[own]);
    const std::vector<double> scores = plain_scores(call, item, row, head);
    double least_chosen = 1e300, most_left = -1e300;
    std::size_t next = 0;
    for (std::uint32_t b = 0; b < own; ++b) {
      const bool is_chosen = next + 1 < list.size() && list[next] == all[b];
      next += is_chosen ? 1 : 0;
      if (b < rule.n_first) {
        EXPECT_TRUE(is_chosen) << b;
      } else if (is_chosen) {
        least_chosen = std::min(least_chosen, scores[b]);
      } else {
        most_left = std::max(most_left, scores[b]);
      }
    }
    ASSERT_EQ(next + 1, list.size());  // in their order
    // Bounds of f32 and f16 keys are rounded to bf16.
    const double tolerance = call.layout.k->format == KvFormat::bf16 ? 1e-3 : 0.5;
    ASSERT_GE(least_chosen, most_left - tolerance);
  }
}

/// softmax(scores) V over the rows of the chosen blocks, in double, for one query head.
std::vector<double> attend_plainly(const BlockChoice::Call& call, const AttentionItem& chosen,
                                   std::uint32_t head) {
  const AttentionShape& shape = call.shape;
  const BlockShape block{shape.block_tokens, shape.head_dim};
  const auto list = chosen.heads[head / (shape.n_heads / shape.n_kv_heads)].blocks;
  const float* q = call.q + (chosen.first_row * std::size_t{shape.n_heads} + head) * shape.head_dim;
  std::vector<float> row(shape.head_dim);
  std::vector<double> out(shape.head_dim);
  double total = 0;
  for (std::uint32_t i = 0; i <= chosen.n_past; ++i) {
    const std::byte* at = call.layout.pool + to_offset(list[i / shape.block_tokens]);
    call.layout.k->read_k(at, i % shape.block_tokens, block, row.data());
    double score = 0;
    for (std::size_t c = 0; c < row.size(); ++c) score += double{q[c]} * double{row[c]};
    score *= double{shape.scale};
    const double cap = double{shape.soft_cap};
    const double weight = std::exp(cap == 0 ? score : cap * std::tanh(score / cap));
    call.layout.v->read_v(at + call.layout.v_offset, i % shape.block_tokens, block, row.data());
    for (std::size_t c = 0; c < row.size(); ++c) out[c] += weight * double{row[c]};
    total += weight;
  }
  for (double& x : out) x /= total;
  return out;
}

void check_outcome(const BlockChoice::Call& call, const AttentionItem& chosen, double tolerance) {
  for (std::uint32_t head = 0; head < call.shape.n_heads; ++head) {
    const std::vector<double> expected = attend_plainly(call, chosen, head);
    const std::size_t at = chosen.first_row * std::size_t{call.shape.n_heads} + head;
    for (std::size_t c = 0; c < expected.size(); ++c) {
      ASSERT_NEAR(double{call.out[at * expected.size() + c]}, expected[c], tolerance) << head;
    }
  }
}

TEST(BlockChoice, ChoosesWhatThePaperDoes) {
  for (std::uint32_t seed = 0; seed < 6; ++seed) {
    std::mt19937 random(seed);
    constexpr std::array kRaw = {KvFormat::bf16, KvFormat::f32, KvFormat::f16};
    const KvFormat format = kRaw[seed % 3];
    AttentionCase c =
        make_case(random_choice_shape(random), format, format, {330, 150, 60}, random);
    c.marks = BlockMarks::bounds;
    const Reads reads{seed % 2 == 0 ? BlockRule{.n_blocks = 4, .n_first = seed % 3}
                                    : BlockRule{.share = 0.3, .n_least = 3},
                      60};
    for (const simd::Table* table : simd::available()) {
      SCOPED_TRACE(testing::Message() << "seed " << seed << " " << table->name);
      ThreadPool threads(1 + seed % 2);
      Chooser chooser(c, reads, threads.n_threads());
      std::size_t n_checked = 0;
      chooser.check_with(
          [&](const Compute& compute, const BlockChoice::Call& call, BlockChoice& choice) {
            const auto items = choice.choose(compute, call, 0);
            std::size_t at = 0;
            for (const std::uint32_t n : call.n_full) at += n != 0 ? 1 : 0;
            for (std::size_t i = 0; i < call.items.size(); ++i) {
              for (std::uint32_t row = call.n_full[i]; row < call.items[i].n_rows; ++row, ++at) {
                if (random() % 16 != 0) continue;
                check_choice(call, call.items[i], row, items[at], reads.rule);
                const bool rounds = format == KvFormat::bf16 && table->rounds_bf16;
                check_outcome(call, items[at], rounds ? 1.5e-2 : 5e-5);
                ++n_checked;
              }
            }
            ASSERT_EQ(at, items.size());
          });
      PagedCache cache(c, random);
      cache.run(random_schedule(c, 60, random), {*table, threads}, by(chooser));
      EXPECT_GT(n_checked, 5U);
    }
  }
}

struct Formats {
  KvFormat k, v;
  std::uint32_t raw_blocks;
};
constexpr std::array kFormats = {
    Formats{KvFormat::bf16, KvFormat::bf16, 0},  Formats{KvFormat::f32, KvFormat::f16, 0},
    Formats{KvFormat::rot4, KvFormat::int4, 0},  Formats{KvFormat::kivi4, KvFormat::bf16, 1},
    Formats{KvFormat::f16, KvFormat::q8_0, 2},   Formats{KvFormat::int8, KvFormat::rot4, 1},
    Formats{KvFormat::kivi8, KvFormat::int8, 0},
};

TEST(BlockChoice, WithAllBlocksTheBitsAreThoseOfAttention) {
  for (std::uint32_t seed = 60; seed < 67; ++seed) {
    std::mt19937 random(seed);
    AttentionShape shape = random_choice_shape(random);
    shape.head_dim = 32;
    const Formats formats = kFormats[seed % kFormats.size()];
    AttentionCase c = make_case(shape, formats.k, formats.v, {1100, 130, 40}, random);
    c.raw_blocks = formats.raw_blocks;
    ThreadPool threads(2);
    PagedCache plain(c, random);
    plain.run(random_schedule(c, 300, random), {simd::best(), threads}, attend);
    c.marks = seed % 2 == 0 ? BlockMarks::bounds : BlockMarks::samples;
    const Reads reads{{.n_blocks = 200, .n_local = seed % 2, .marks = c.marks}, 50};
    Chooser chooser(c, reads, 2);
    PagedCache cache(c, random);
    cache.run(random_schedule(c, 300, random), {simd::best(), threads}, by(chooser));
    EXPECT_TRUE(same_bits(cache.out(), plain.out())) << "seed " << seed;
  }
}

/// Chunks, company, threads and how many lists there is memory for change no bit.
TEST(BlockChoice, BitsDependOnPositionAlone) {
  ThreadPool one(1), two(2), three(3);
  for (std::uint32_t seed = 70; seed < 82; ++seed) {
    std::mt19937 random(seed);
    AttentionShape shape = random_choice_shape(random);
    shape.head_dim = 32;
    const Formats formats = kFormats[seed % kFormats.size()];
    AttentionCase c = make_case(shape, formats.k, formats.v, {420, 150, 60}, random);
    c.raw_blocks = formats.raw_blocks;
    const bool samples = seed >= 76;
    c.marks = samples ? BlockMarks::samples : BlockMarks::bounds;
    const Reads reads{{.n_blocks = 6,
                       .n_first = formats.raw_blocks,
                       .n_local = samples ? 1 + seed % 2 : 0,
                       .marks = c.marks,
                       .n_representatives = 1 + seed % 3},
                      samples ? 64U : 100U};
    const simd::Table& table = *simd::available()[seed % simd::available().size()];
    const Schedule whole = {{{0, 420}}, {{1, 150}}, {{2, 60}}};
    Chooser chooser(c, reads, 1);
    PagedCache expected(c, random);
    expected.run(whole, {table, one}, by(chooser));
    PagedCache plain(c, random);
    plain.run(whole, {table, one}, attend);
    EXPECT_FALSE(same_bits(expected.out(), plain.out()));  // else the test tests nothing
    SCOPED_TRACE(testing::Message() << "seed " << seed << " " << table.name);
    for (const std::uint32_t max_chunk : {1U, 9U, 300U}) {
      ThreadPool* const pools[] = {&one, &two, &three};
      ThreadPool& threads = *pools[random() % 3];
      Chooser other(c, reads, threads.n_threads(), 100 * max_chunk);
      PagedCache cache(c, random);
      cache.run(random_schedule(c, max_chunk, random), {table, threads}, by(other));
      ASSERT_TRUE(same_bits(cache.out(), expected.out())) << max_chunk;
    }
  }
}

}  // namespace
}  // namespace larder
