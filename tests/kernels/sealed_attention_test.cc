// Attention over sealed blocks: earlier blocks as their format has them, the query's own block raw.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "kernels/attention.h"
#include "kernels/attention_cache.h"
#include "kernels/reference/attention.h"
#include "kernels/shared_blocks.h"

namespace larder {
namespace {

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
  shape.head_dim = pick({16, 32, 64, 80, 96, 128, 256});
  shape.block_tokens = pick({16, 32, 64, 128});
  shape.window = pick({0, 0, 1, 5, 100, 512, 700});
  shape.scale = 1 / std::sqrt(static_cast<float>(shape.head_dim));
  shape.soft_cap = rng() % 3 == 0 ? 5.0F : 0.0F;
  return shape;
}

/// Formats that can store blocks of the shape, one of them sealed.
std::pair<KvFormat, KvFormat> random_formats(const AttentionShape& shape, std::mt19937& rng) {
  const BlockShape block{shape.block_tokens, shape.head_dim};
  for (;;) {
    const KvCodec& k = *kv_codecs()[rng() % kv_codecs().size()];
    const KvCodec& v = *kv_codecs()[rng() % kv_codecs().size()];
    if (k.is_raw() && v.is_raw()) continue;
    if (k.refusal_k != nullptr && !k.refusal_k(block).empty()) continue;
    if (v.refusal_v != nullptr && !v.refusal_v(block).empty()) continue;
    return {k.format, v.format};
  }
}

std::string describe(const AttentionCase& c) {
  const AttentionShape& s = c.shape;
  return fmt::format("{}/{}: {}/{} heads of {}, blocks of {}, {} raw, window {}, cap {}",
                     kv_codec(c.k).name, kv_codec(c.v).name, s.n_heads, s.n_kv_heads, s.head_dim,
                     s.block_tokens, c.raw_blocks, s.window, s.soft_cap);
}

/// Whether elements are rounded to bf16 when parts are decoded.
bool rounds_elements(const KvCodec& codec) {
  return (codec.decode_k != nullptr && codec.row_scales == nullptr) ||
         (codec.codes != nullptr && codec.codes->fit == simd::CodeFit::range);
}

/// Whether queries and weights are rounded to 16 bits (simd/byte_rows.h).
bool multiplies_bytes(const KvCodec& codec) {
  return codec.row_scales != nullptr &&
         (codec.codes == nullptr || simd::codes_are_bytes(*codec.codes));
}

bool same_bits(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
  });
}

TEST(SealedAttention, AgreesWithTheReferenceOverRaggedBatches) {
  ThreadPool pool(2);
  for (std::uint32_t seed = 0; seed < 10; ++seed) {
    std::mt19937 rng(seed);
    const AttentionShape shape = random_shape(rng);
    const auto formats = random_formats(shape, rng);
    AttentionCase c = make_case(shape, formats.first, formats.second,
                                {1 + static_cast<std::uint32_t>(rng() % 560), 33, 1}, rng);
    c.raw_blocks = static_cast<std::uint32_t>(rng() % 3);
    SCOPED_TRACE(testing::Message() << "seed " << seed << ": " << describe(c));
    const Schedule schedule = random_schedule(c, 200, rng);
    for (const simd::Table* table : simd::available()) {
      // Encoding rounds a little differently in each set: the reference reads what this set wrote.
      PagedCache cache(c, rng), expected(c, rng);
      const bool rounds =
          table->rounds_bf16 || rounds_elements(kv_codec(c.k)) || rounds_elements(kv_codec(c.v));
      const bool rounds_a_little =
          multiplies_bytes(kv_codec(c.k)) || multiplies_bytes(kv_codec(c.v));
      const double tolerance = rounds ? 1.5e-2 : rounds_a_little ? 5e-4 : 2e-5;
      cache.run(schedule, {*table, pool}, attend);
      expected.run(schedule, {*table, pool}, reference_attend);
      for (std::size_t s = 0; s < c.lengths.size(); ++s) {
        for (std::size_t i = 0; i < cache.out()[s].size(); ++i) {
          ASSERT_NEAR(cache.out()[s][i], expected.out()[s][i], tolerance)
              << table->name << " sequence " << s << " element " << i;
        }
      }
    }
  }
}

TEST(SealedAttention, BitsDependOnPositionAlone) {
  ThreadPool one(1), two(2), three(3);
  for (std::uint32_t seed = 100; seed < 108; ++seed) {
    std::mt19937 rng(seed);
    AttentionShape shape = random_shape(rng);
    shape.head_dim = std::array{16U, 32U, 64U}[seed % 3];
    shape.n_heads = shape.n_kv_heads * (1 + seed % 5);
    const auto formats = random_formats(shape, rng);
    AttentionCase c = make_case(shape, formats.first, formats.second,
                                {1025 + static_cast<std::uint32_t>(rng() % 100), 300, 40}, rng);
    SCOPED_TRACE(testing::Message() << "seed " << seed << ": " << describe(c));
    c.raw_blocks = static_cast<std::uint32_t>(rng() % 3);
    const Schedule whole = {{{0, c.lengths[0]}}, {{1, c.lengths[1]}}, {{2, c.lengths[2]}}};
    const std::size_t n_sets = simd::available().size();
    const simd::Table* const table = simd::available()[n_sets - 1 - seed / 2 % n_sets];
    PagedCache expected(c, rng);
    expected.run(whole, {*table, one}, attend);
    for (const std::uint32_t max_chunk : {2U, 9U, 60U, 700U}) {
      ThreadPool* const pools[] = {&one, &two, &three};
      PagedCache cache(c, rng);
      cache.run(random_schedule(c, max_chunk, rng), {*table, *pools[rng() % 3]}, attend);
      ASSERT_TRUE(same_bits(cache.out(), expected.out())) << table->name << " " << max_chunk;
    }
  }
}

// Many queries may meet blocks that were joined, few meet them as they are.
TEST(SealedAttention, BitsOfBytesDependOnPositionAloneWhateverTheBlocks) {
  ThreadPool one(1);
  for (const KvFormat format : {KvFormat::int8, KvFormat::rot4, KvFormat::rot3}) {
    for (const std::uint32_t block_tokens : {16U, 32U, 64U}) {
      const KvCodec& codec = kv_codec(format);
      if (codec.refusal_v != nullptr && !codec.refusal_v({block_tokens, 64}).empty()) continue;
      std::mt19937 rng(block_tokens);
      const AttentionShape shape{4, 2, 64, block_tokens, block_tokens == 32 ? 300U : 0U, 0.125F, 0};
      AttentionCase c = make_case(shape, format, format, {590, 90}, rng);
      c.raw_blocks = block_tokens == 16 ? 1 : 0;
      const Schedule whole = {{{0, c.lengths[0]}}, {{1, c.lengths[1]}}};
      for (const simd::Table* table : simd::available()) {
        PagedCache expected(c, rng), cache(c, rng);
        expected.run(whole, {*table, one}, attend);
        cache.run(random_schedule(c, 4, rng), {*table, one}, attend);
        ASSERT_TRUE(same_bits(cache.out(), expected.out()))
            << table->name << ", " << codec.name << ", blocks of " << block_tokens;
        simd::Table joins = *table;  // whatever the set's instructions take
        joins.byte_tokens = 64;
        PagedCache joined(c, rng);
        joined.run(whole, {joins, one}, attend);
        ASSERT_TRUE(same_bits(joined.out(), expected.out()))
            << table->name << ", " << codec.name << ", blocks of " << block_tokens;
      }
    }
  }
}

TEST(SealedAttention, SharedBlocksChangeNothing) {
  for (std::uint32_t seed = 200; seed < 205; ++seed) {
    std::mt19937 rng(seed);
    AttentionShape shape = random_shape(rng);
    shape.head_dim = seed % 2 == 0 ? 16 : 64;
    const auto formats = random_formats(shape, rng);
    const std::uint32_t n_shared = 128 * std::array{1U, 4U, 6U}[seed % 3];
    std::vector<std::uint32_t> lengths;
    for (int s = 0; s < 5; ++s) {
      lengths.push_back(n_shared + 1 + static_cast<std::uint32_t>(rng() % 40));
    }
    AttentionCase c = make_case(shape, formats.first, formats.second, lengths, rng);
    SCOPED_TRACE(testing::Message() << "seed " << seed << ": " << describe(c));
    c.raw_blocks = static_cast<std::uint32_t>(rng() % 3);
    expect_sharing_changes_nothing(c, n_shared, simd::best(), rng);
  }
}

// Sinks may stand in raw blocks, in sealed ones, or in both.
TEST(SealedAttention, SinksMetByTheSameQueriesChangeNothing) {
  ThreadPool two(2);
  for (std::uint32_t seed = 300; seed < 308; ++seed) {
    std::mt19937 rng(seed);
    AttentionShape shape = random_shape(rng);
    shape.window = 0;
    const auto formats = random_formats(shape, rng);
    AttentionCase plain = make_case(shape, formats.first, formats.second, {300, 640, 150}, rng);
    plain.raw_blocks = static_cast<std::uint32_t>(rng() % 4);
    AttentionCase sinks = plain;
    sinks.n_sinks = kMaxSinkRows;  // whole blocks of any size
    SCOPED_TRACE(testing::Message() << "seed " << seed << ": " << describe(plain));
    const Schedule schedule = random_schedule(plain, 90, rng);
    for (const simd::Table* table : simd::available()) {
      PagedCache expected(plain, rng), cache(sinks, rng);
      expected.run(schedule, {*table, two}, attend);
      cache.run(schedule, {*table, two}, attend);
      ASSERT_TRUE(same_bits(cache.out(), expected.out())) << table->name;
    }
  }
}

TEST(SealedAttention, FreshBlocksAreCountedByItems) {
  const auto fresh = [](std::uint32_t n_past, std::uint32_t n_rows) {
    return n_fresh_blocks({0, n_rows, n_past, {}, 0}, 32);
  };
  EXPECT_EQ(fresh(0, 1), 0U);
  EXPECT_EQ(fresh(31, 1), 0U);
  EXPECT_EQ(fresh(31, 2), 1U);
  EXPECT_EQ(fresh(0, 32), 0U);
  EXPECT_EQ(fresh(0, 33), 1U);
  EXPECT_EQ(fresh(31, 34), 2U);
  EXPECT_EQ(fresh(64, 512), 15U);
  for (std::uint32_t n_past = 0; n_past < 40; ++n_past) {
    for (std::uint32_t n = 1; n < 100; ++n) EXPECT_LE(fresh(n_past, n), max_fresh_blocks(n, 1, 32));
  }
}

}  // namespace
}  // namespace larder
