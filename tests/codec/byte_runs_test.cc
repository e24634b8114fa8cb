// Rows of bytes with a scale each (simd/byte_rows.h): every set has the bits of the formulas there
// for any number of queries, and those of the scalar set where it encodes and decodes.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "codec/kv_codec.h"
#include "simd/byte_rows.h"
#include "simd/integer_rows.h"

namespace larder {
namespace {

constexpr std::uint32_t kBlocks = 19;  // more than are rounded together where blocks have 32 rows
const BlockShape kShapes[] = {{16, 16},   {16, 64}, {32, 32},  {32, 80},   {48, 64},  {80, 48},
                              {112, 112}, {32, 96}, {64, 256}, {128, 128}, {16, 576}, {32, 1024}};

/// A run of sealed parts of one side, and what they hold.
struct ByteRun {
  std::vector<std::vector<std::byte>> open, parts;
  std::vector<const std::byte*> pointers;
  std::vector<float> scales;                   // [rows]
  std::vector<std::vector<std::int8_t>> rows;  // [rows][head_dim]

  simd::KvRun of(std::size_t n_blocks) const {
    return {pointers.data(), n_blocks, pointers.size() - n_blocks};
  }
};

ByteRun make_run(BlockShape shape, bool is_key, std::mt19937& rng) {
  const KvCodec& bf16 = kv_codec(KvFormat::bf16);
  const simd::Table& scalar = simd::scalar_table();
  std::normal_distribution<float> normal(0.3F, 1.0F);
  const std::size_t n_elements = simd::bytes_of_rows(shape);
  ByteRun run;
  std::vector<float> row(shape.head_dim);
  for (std::uint32_t b = 0; b < kBlocks; ++b) {
    auto& open = run.open.emplace_back(n_elements * 2);
    for (std::uint32_t t = 0; t < shape.block_tokens; ++t) {
      const float size = std::exp(normal(rng));
      for (float& x : row) x = size * normal(rng);
      (is_key ? bf16.append_k : bf16.append_v)(row.data(), t, shape, open.data());
    }
    auto& part = run.parts.emplace_back(simd::byte_part_bytes(shape));
    (is_key ? scalar.encode_bytes_k : scalar.encode_bytes_v)(open.data(), shape, part.data());
    part[b] = std::byte{0x80};  // no encoder writes it
    part[b + 1] = std::byte{0x81};
    for (std::uint32_t t = 0; t < shape.block_tokens; ++t) {
      auto& bytes = run.rows.emplace_back(shape.head_dim);
      for (std::uint32_t c = 0; c < shape.head_dim; ++c) {
        bytes[c] = static_cast<std::int8_t>(
            part[(is_key ? simd::byte_at_k : simd::byte_at_v)(t, c, shape)]);
      }
    }
    run.scales.resize(run.scales.size() + shape.block_tokens);
    scalar.read_halves(part.data() + n_elements, shape.block_tokens,
                       run.scales.data() + std::size_t{b} * shape.block_tokens);
  }
  for (const auto& part : run.parts) run.pointers.push_back(part.data());
  return run;
}

struct Rounded {
  float unit = 0;
  std::vector<std::int64_t> integers;
};

// Finite numbers.
Rounded round(const std::vector<float>& x) {
  float largest = 0;
  for (const float f : x) largest = std::max(largest, std::abs(f));
  Rounded rounded{0, std::vector<std::int64_t>(x.size())};
  if (largest < simd::kLeastLargest) return rounded;
  rounded.unit = largest * (1.0F / simd::kTopBytes);
  const float inverse = simd::kTopBytes / largest;
  for (std::size_t i = 0; i < x.size(); ++i) rounded.integers[i] = std::llrint(x[i] * inverse);
  return rounded;
}

std::vector<float> scores_of(const ByteRun& run, const float* q, std::size_t head_dim,
                             std::size_t n) {
  const Rounded rounded = round({q, q + head_dim});
  std::vector<float> scores(n);
  for (std::size_t t = 0; t < n; ++t) {
    std::int64_t sum = 0;
    for (std::size_t c = 0; c < head_dim; ++c) sum += rounded.integers[c] * run.rows[t][c];
    scores[t] = static_cast<float>(sum) * rounded.unit * run.scales[t];
  }
  return scores;
}

void add_weighted(const ByteRun& run, const float* weights, BlockShape shape, std::size_t n,
                  float* out) {
  const std::size_t chunk = simd::kByteRun / shape.block_tokens * shape.block_tokens;
  for (std::size_t first = 0; first < n; first += chunk) {
    std::vector<float> scaled(std::min(chunk, n - first));
    for (std::size_t t = 0; t < scaled.size(); ++t) {
      scaled[t] = weights[first + t] * run.scales[first + t];
    }
    const Rounded rounded = round(scaled);
    for (std::size_t c = 0; c < shape.head_dim; ++c) {
      std::int64_t sum = 0;
      for (std::size_t t = 0; t < scaled.size(); ++t) {
        sum += rounded.integers[t] * run.rows[first + t][c];
      }
      out[c] = std::fma(static_cast<float>(sum), rounded.unit, out[c]);
    }
  }
}

std::vector<float> normals(std::size_t n, std::mt19937& rng) {
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& f : x) f = normal(rng);
  return x;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

template <class F>
void for_each_case(bool is_key, F&& f) {
  for (const simd::Table* table : simd::available()) {
    for (const BlockShape shape : kShapes) {
      SCOPED_TRACE(testing::Message()
                   << table->name << ' ' << shape.block_tokens << " x " << shape.head_dim);
      std::mt19937 rng(7);
      f(*table, shape, make_run(shape, is_key, rng), rng);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

TEST(ByteRuns, PartsAndDecodedRowsAreTheScalarOnes) {
  for (const bool is_key : {true, false}) {
    for_each_case(
        is_key, [&](const simd::Table& table, BlockShape shape, const ByteRun& run, std::mt19937&) {
          const simd::Table& scalar = simd::scalar_table();
          for (std::size_t b = 0; b < kBlocks; ++b) {
            std::vector<std::byte> part(run.parts[b].size()), expected = part;
            (is_key ? table.encode_bytes_k : table.encode_bytes_v)(run.open[b].data(), shape,
                                                                   part.data());
            (is_key ? scalar.encode_bytes_k : scalar.encode_bytes_v)(run.open[b].data(), shape,
                                                                     expected.data());
            ASSERT_EQ(part, expected) << "block " << b;
            std::vector<std::byte> bf16(run.open[b].size()), of_scalar = bf16;
            (is_key ? table.decode_bytes_k : table.decode_bytes_v)(run.parts[b].data(), shape,
                                                                   bf16.data());
            (is_key ? scalar.decode_bytes_k : scalar.decode_bytes_v)(run.parts[b].data(), shape,
                                                                     of_scalar.data());
            ASSERT_EQ(bf16, of_scalar) << "block " << b;
          }
        });
  }
}

// NaN, infinity, denormals and scales that are zero among them.
TEST(ByteRuns, PartsOfAnyBitsAreTheScalarOnes) {
  const simd::Table& scalar = simd::scalar_table();
  for (const simd::Table* table : simd::available()) {
    for (const BlockShape shape : kShapes) {
      std::mt19937 rng(9);
      std::vector<std::uint16_t> open(simd::bytes_of_rows(shape));
      for (const unsigned mask : {0xffffU, 0xbfffU, 0x81ffU}) {  // all, below 2, denormals
        for (auto& x : open) x = static_cast<std::uint16_t>(rng() & mask);
        const auto* const bf16 = reinterpret_cast<const std::byte*>(open.data());
        std::vector<std::byte> part(simd::byte_part_bytes(shape)), expected = part;
        table->encode_bytes_k(bf16, shape, part.data());
        scalar.encode_bytes_k(bf16, shape, expected.data());
        ASSERT_EQ(part, expected) << table->name << " K, " << mask;
        table->encode_bytes_v(bf16, shape, part.data());
        scalar.encode_bytes_v(bf16, shape, expected.data());
        ASSERT_EQ(part, expected) << table->name << " V, " << mask;
      }
    }
  }
}

TEST(ByteRuns, ScoresHaveTheBitsOfTheFormula) {
  for_each_case(true, [](const simd::Table& table, BlockShape shape, const ByteRun& run,
                         std::mt19937& rng) {
    for (const std::size_t n_q : {1U, 2U, 3U, 4U, 7U, 8U, 9U, 16U, 17U, 35U}) {
      for (const std::size_t n_blocks : {std::size_t{1}, std::size_t{2}, std::size_t{kBlocks}}) {
        if (n_q > 4 && n_blocks == kBlocks && shape.head_dim > 128) continue;  // takes long
        const std::size_t n = n_blocks * shape.block_tokens, stride = n + 3;
        const std::vector<float> q = normals(n_q * shape.head_dim, rng);
        std::vector<float> expected(n_q * stride, -7.0F), scores = expected;
        for (std::size_t i = 0; i < n_q; ++i) {
          const auto row = scores_of(run, q.data() + i * shape.head_dim, shape.head_dim, n);
          std::copy(row.begin(), row.end(),
                    expected.begin() + static_cast<std::ptrdiff_t>(i * stride));
        }
        table.run_scores_bytes(q.data(), run.of(n_blocks), shape, {scores.data(), n_q, stride});
        ASSERT_TRUE(same_bits(scores, expected)) << n_q << " queries, " << n_blocks << " blocks";
      }
    }
  });
}

TEST(ByteRuns, WeightedSumsHaveTheBitsOfTheFormula) {
  for_each_case(false, [](const simd::Table& table, BlockShape shape, const ByteRun& run,
                          std::mt19937& rng) {
    for (const std::size_t n_q : {1U, 2U, 3U, 4U, 7U, 8U, 9U, 16U, 17U, 35U}) {
      for (const std::size_t n_blocks : {std::size_t{1}, std::size_t{3}, std::size_t{kBlocks}}) {
        if (n_q > 4 && n_blocks == kBlocks && shape.head_dim > 128) continue;  // takes long
        const std::size_t n = n_blocks * shape.block_tokens, stride = n + 5;
        const std::vector<float> weights = normals(n_q * stride, rng);
        std::vector<float> expected = normals(n_q * shape.head_dim, rng), out = expected;
        std::vector<float> w = weights;
        for (std::size_t i = 0; i < n_q; ++i) {
          add_weighted(run, weights.data() + i * stride, shape, n,
                       expected.data() + i * shape.head_dim);
        }
        table.run_accumulate_bytes({w.data(), n_q, stride}, run.of(n_blocks), shape,
                                   static_cast<std::uint32_t>(n), out.data());
        ASSERT_TRUE(same_bits(out, expected)) << n_q << " queries, " << n_blocks << " blocks";
      }
    }
  });
}

// The last block may have more tokens than weights, whatever its scales are.
TEST(ByteRuns, WeightsMayEndWithinABlock) {
  for_each_case(false, [](const simd::Table& table, BlockShape shape, ByteRun run,
                          std::mt19937& rng) {
    for (std::uint32_t n = 16; n < 3 * shape.block_tokens; n += 16) {
      const std::size_t n_blocks = (n + shape.block_tokens - 1) / shape.block_tokens;
      auto& last = run.parts[n_blocks - 1];
      const std::vector<std::byte> before = last;
      const std::size_t seen = n - (n_blocks - 1) * shape.block_tokens;
      std::fill(last.begin() + static_cast<std::ptrdiff_t>(simd::bytes_of_rows(shape) + 2 * seen),
                last.end(), std::byte{0xff});  // NaN
      for (const std::size_t n_q : {1U, 9U, 17U}) {
        std::vector<float> weights = normals(n_q * n, rng);
        std::vector<float> expected = normals(n_q * shape.head_dim, rng), out = expected;
        for (std::size_t i = 0; i < n_q; ++i) {
          add_weighted(run, weights.data() + i * n, shape, n, expected.data() + i * shape.head_dim);
        }
        table.run_accumulate_bytes({weights.data(), n_q, n}, run.of(n_blocks), shape, n,
                                   out.data());
        ASSERT_TRUE(same_bits(out, expected)) << n_q << " queries, " << n << " tokens";
      }
      last = before;
    }
  });
}

// V of byte parts is in fours of tokens: rows of blocks side by side are those of one.
TEST(ByteRuns, JoinedBlocksGiveTheSameBits) {
  for (const simd::Table* table : simd::available()) {
    for (const BlockShape shape : {BlockShape{16, 64}, BlockShape{32, 80}, BlockShape{32, 128}}) {
      std::mt19937 rng(8);
      const ByteRun run = make_run(shape, false, rng);
      const std::uint32_t n_rows = simd::kByteRun, n_blocks = 5, n = n_blocks * shape.block_tokens;
      const std::size_t row_bytes = shape.head_dim, n_scales = 2 * shape.block_tokens;
      const BlockShape all{n_rows, shape.head_dim};
      std::vector<std::byte> joined(simd::byte_part_bytes(all), std::byte{0xff});
      for (std::uint32_t b = 0; b < n_blocks; ++b) {
        const std::size_t first = std::size_t{b} * shape.block_tokens;
        std::memcpy(joined.data() + first * row_bytes, run.pointers[b], simd::bytes_of_rows(shape));
        std::memcpy(joined.data() + simd::bytes_of_rows(all) + 2 * first,
                    run.pointers[b] + simd::bytes_of_rows(shape), n_scales);
      }
      const std::byte* const part = joined.data();
      for (const std::size_t n_q : {1U, 3U, 9U, 20U}) {
        std::vector<float> weights = normals(n_q * n, rng);
        std::vector<float> expected = normals(n_q * shape.head_dim, rng), out = expected;
        table->run_accumulate_bytes({weights.data(), n_q, n}, run.of(n_blocks), shape, n,
                                    expected.data());
        table->run_accumulate_bytes({weights.data(), n_q, n}, {&part, 1, 0}, all, n, out.data());
        ASSERT_TRUE(same_bits(out, expected)) << table->name << ", " << n_q << " queries";
      }
    }
  }
}

TEST(ByteRuns, LargestNumbersDoNotOverflow) {
  for_each_case(false, [](const simd::Table& table, BlockShape shape, ByteRun run, std::mt19937&) {
    const std::size_t n_codes = simd::bytes_of_rows(shape);
    for (auto& part : run.parts) {
      std::fill_n(part.begin(), n_codes, std::byte{0x81});
      const std::uint16_t one = 0x3c00;
      for (std::size_t t = 0; t < shape.block_tokens; ++t) {
        std::memcpy(part.data() + n_codes + 2 * t, &one, 2);
      }
    }
    const std::size_t n = simd::kByteRun / shape.block_tokens * shape.block_tokens;
    const std::size_t n_blocks = std::min<std::size_t>(n / shape.block_tokens, kBlocks);
    const std::size_t n_tokens = n_blocks * shape.block_tokens;
    std::vector<float> ones(std::max<std::size_t>(n_tokens, shape.head_dim), 1.0F);
    std::vector<float> scores(n_tokens), out(shape.head_dim);
    table.run_scores_bytes(ones.data(), run.of(n_blocks), shape, {scores.data(), 1, n_tokens});
    table.run_accumulate_bytes({ones.data(), 1, n_tokens}, run.of(n_blocks), shape,
                               static_cast<std::uint32_t>(n_tokens), out.data());
    const auto d = static_cast<float>(shape.head_dim), t = static_cast<float>(n_tokens);
    for (const float score : scores) ASSERT_NEAR(score, -127 * d, 1e-4F * d);
    for (const float x : out) ASSERT_NEAR(x, -127 * t, 1e-4F * t);
  });
}

// What integers of 16 bits lose is half a unit of each number; floats are rounded besides.
TEST(ByteRuns, ErrorsAreThoseOfSixteenBits) {
  constexpr double kHalfUnit = 0.5 / double{simd::kTopBytes}, kFloat = 0x1p-22;
  for_each_case(false, [](const simd::Table& table, BlockShape shape, const ByteRun& run,
                          std::mt19937& rng) {
    const std::size_t n_blocks =
        std::min<std::size_t>(kBlocks, simd::kByteRun / shape.block_tokens);
    const std::size_t n = n_blocks * shape.block_tokens;
    std::vector<float> weights = normals(n, rng), out(shape.head_dim);
    for (float& w : weights) w = std::exp(4 * w - 8);
    double largest = 0;
    for (std::size_t t = 0; t < n; ++t) {
      largest = std::max(largest, double{weights[t]} * double{run.scales[t]});
    }
    table.run_accumulate_bytes({weights.data(), 1, n}, run.of(n_blocks), shape,
                               static_cast<std::uint32_t>(n), out.data());
    for (std::size_t c = 0; c < shape.head_dim; ++c) {
      double exact = 0, bound = 0;
      for (std::size_t t = 0; t < n; ++t) {
        const double product = double{weights[t]} * double{run.scales[t]} * run.rows[t][c];
        exact += product;
        bound += kHalfUnit * largest * std::abs(run.rows[t][c]) + 16 * kFloat * std::abs(product);
      }
      ASSERT_NEAR(double{out[c]}, exact, bound) << "channel " << c;
    }
  });
}

TEST(ByteRuns, WeightsOfZeroChangeNothing) {
  for_each_case(
      false, [](const simd::Table& table, BlockShape shape, const ByteRun& run, std::mt19937& rng) {
        const std::size_t n_blocks =
            std::min<std::size_t>(kBlocks, simd::kByteRun / shape.block_tokens);
        const std::size_t n = n_blocks * shape.block_tokens;
        // The weights of the second block alone, from that block on and with what is around it.
        std::vector<float> weights = normals(n, rng);
        std::fill_n(weights.begin(), shape.block_tokens, 0.0F);
        std::fill(weights.begin() + 2 * shape.block_tokens, weights.end(), 0.0F);
        const std::vector<float> before = normals(shape.head_dim, rng);
        std::vector<float> some = before, all = before;
        const simd::KvRun second{run.pointers.data() + 1, 1, 0};
        table.run_accumulate_bytes({weights.data() + shape.block_tokens, 1, n}, second, shape,
                                   shape.block_tokens, some.data());
        table.run_accumulate_bytes({weights.data(), 1, n}, run.of(n_blocks), shape,
                                   static_cast<std::uint32_t>(n), all.data());
        ASSERT_TRUE(same_bits(some, all));
        std::fill(weights.begin(), weights.end(), 0.0F);
        all = before;
        table.run_accumulate_bytes({weights.data(), 1, n}, run.of(n_blocks), shape,
                                   static_cast<std::uint32_t>(n), all.data());
        ASSERT_TRUE(same_bits(before, all));
      });
}

TEST(ByteRuns, NaNAndInfinityReachTheirResultAndTinyNumbersAreZero) {
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const BlockShape shape{32, 64};
  const std::size_t n = shape.block_tokens, d = shape.head_dim;
  for (const simd::Table* table : simd::available()) {
    std::mt19937 rng(3);
    ByteRun k = make_run(shape, true, rng);
    const ByteRun v = make_run(shape, false, rng);
    for (const float bad : {kNaN, -kNaN, kInfinity, -kInfinity}) {
      std::vector<float> q(2 * d, 1.0F), scores(2 * n), weights(2 * n, 0.5F), out(2 * d);
      q[7] = bad;
      weights[5] = bad;
      table->run_scores_bytes(q.data(), k.of(1), shape, {scores.data(), 2, n});
      table->run_accumulate_bytes({weights.data(), 2, n}, v.of(1), shape, n, out.data());
      for (std::size_t t = 0; t < n; ++t) {
        EXPECT_FALSE(std::isfinite(scores[t])) << bad;
        EXPECT_TRUE(std::isfinite(scores[n + t])) << bad;
      }
      for (std::size_t c = 0; c < d; ++c) {
        EXPECT_FALSE(std::isfinite(out[c])) << bad;
        EXPECT_TRUE(std::isfinite(out[d + c])) << bad;
      }
    }
    const std::vector<float> tiny(d, 1e-40F), ones(d, 1.0F);
    std::vector<float> scores(n, 1.0F);
    table->run_scores_bytes(tiny.data(), k.of(1), shape, {scores.data(), 1, n});
    for (const float score : scores) EXPECT_EQ(score, 0.0F);
    const std::uint16_t infinite = 0x7c00;  // the scale of row 3
    std::memcpy(k.parts[0].data() + simd::bytes_of_rows(shape) + 6, &infinite, 2);
    table->run_scores_bytes(ones.data(), k.of(1), shape, {scores.data(), 1, n});
    for (std::size_t t = 0; t < n; ++t) EXPECT_EQ(std::isfinite(scores[t]), t != 3) << t;
  }
}

}  // namespace
}  // namespace larder
