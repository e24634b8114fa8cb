// Parts of ggml blocks multiplied by integers (simd/integer_rows.h): the same bits from rows, from
// integer parts and in every set of integers, within the stated error of exact arithmetic. Sets
// that round to bf16 instead: the same bits from rows and from unpacked parts, within bf16's error.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "codec/kv_codec.h"
#include "simd/integer_rows.h"
#include "tensor/half.h"

namespace larder {
namespace {

constexpr std::uint32_t kBlocks = 5;
const BlockShape kShapes[] = {{16, 32},   {32, 64},  {48, 96},  {128, 128}, {64, 256},
                              {32, 1024}, {16, 160}, {32, 192}, {64, 224},  {128, 1024}};

/// A run of sealed parts of one side: as rows of ggml blocks, as integer parts, and decoded.
struct SealedParts {
  std::vector<std::vector<std::byte>> parts, integers;
  std::vector<const std::byte*> part_pointers, integer_pointers;
  std::vector<std::vector<float>> rows;  // [tokens][head_dim]

  simd::KvRun of(const std::vector<const std::byte*>& pointers, std::size_t n) const {
    return {pointers.data(), n, pointers.size() - n};
  }
};

struct Side {
  const KvCodec& codec;
  bool is_key;
};

SealedParts make_run(const Side& side, BlockShape shape, std::mt19937& rng) {
  const KvCodec &codec = side.codec, &raw = kv_codec(codec.raw);
  const simd::Table& table = simd::scalar_table();
  std::normal_distribution<float> normal(0.3F, 1.0F);
  SealedParts run;
  std::vector<float> row(shape.head_dim);
  for (std::uint32_t b = 0; b < kBlocks; ++b) {
    std::vector<std::byte> open(std::size_t{shape.block_tokens} * shape.head_dim * 2);
    for (std::uint32_t t = 0; t < shape.block_tokens; ++t) {
      const float size = std::exp(2 * normal(rng));  // of rows, and of some channels in them
      for (float& x : row) x = size * normal(rng) * (rng() % 16 == 0 ? 20.0F : 1.0F);
      if (rng() % 8 == 0) std::fill_n(row.begin(), 32, 0.0F);  // a group without a scale
      (side.is_key ? raw.append_k : raw.append_v)(row.data(), t, shape, open.data());
    }
    auto& part = run.parts.emplace_back(codec.k_bytes(shape));
    (side.is_key ? codec.encode_k : codec.encode_v)(table)(open.data(), shape, part.data());
    auto& integers = run.integers.emplace_back(simd::integer_part_bytes(shape));
    (side.is_key ? codec.unpack_k : codec.unpack_v)(table)(part.data(), shape, integers.data());
    for (std::uint32_t t = 0; t < shape.block_tokens; ++t) {
      auto& decoded = run.rows.emplace_back(shape.head_dim);
      (side.is_key ? codec.read_k : codec.read_v)(part.data(), t, shape, decoded.data());
    }
  }
  for (const auto& part : run.parts) run.part_pointers.push_back(part.data());
  for (const auto& part : run.integers) run.integer_pointers.push_back(part.data());
  return run;
}

std::vector<float> normals(std::size_t n, std::mt19937& rng) {
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& f : x) f = normal(rng);
  return x;
}
std::vector<float> softmax_weights(std::size_t n, std::mt19937& rng) {
  std::vector<float> x = normals(n, rng);
  for (float& f : x) f = std::exp(4 * f - 8);
  return x;
}

template <class F>
void for_each_case(bool is_key, F&& f) {
  for (const KvFormat format : {KvFormat::q8_0, KvFormat::q4_0}) {
    for (const BlockShape shape : kShapes) {
      SCOPED_TRACE(testing::Message() << kv_codec(format).name << ' ' << shape.block_tokens << " x "
                                      << shape.head_dim);
      std::mt19937 rng(7);
      const Side side{kv_codec(format), is_key};
      f(side, shape, make_run(side, shape, rng), rng);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

/// The parts of a run as the set unpacks them.
struct UnpackedParts {
  std::vector<std::vector<std::byte>> parts;
  std::vector<const std::byte*> pointers;

  UnpackedParts(const simd::Table& table, const Side& side, BlockShape shape,
                const SealedParts& run) {
    const auto unpack = (side.is_key ? side.codec.unpack_k : side.codec.unpack_v)(table);
    for (const auto& part : run.parts) {
      parts.emplace_back(simd::integer_part_bytes(shape));
      unpack(part.data(), shape, parts.back().data());
    }
    for (const auto& part : parts) pointers.push_back(part.data());
  }
};

// One factor of a product is off by 2^-8 of itself at most, and floats are rounded.
constexpr double kBf16Error = 0x1p-8 + 0x1p-16;

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// bf16 numbers, which must be integers, become such, in place.
void to_integers(BlockShape shape, std::byte* part) {
  for (std::size_t i = 0; i < std::size_t{shape.block_tokens} * shape.head_dim; ++i) {
    std::uint16_t bits;
    std::memcpy(&bits, part + 2 * i, sizeof(bits));
    const float value = bf16_to_f32(bits);
    const auto integer = static_cast<std::int16_t>(value);
    EXPECT_EQ(static_cast<float>(integer), value);
    std::memcpy(part + 2 * i, &integer, sizeof(integer));
  }
}

TEST(IntegerRuns, AllSetsUnpackTheSameBytes) {
  for (const bool is_key : {true, false}) {
    for_each_case(
        is_key, [](const Side& side, BlockShape shape, const SealedParts& run, std::mt19937&) {
          for (const simd::Table* table : simd::available()) {
            UnpackedParts unpacked(*table, side, shape, run);
            for (std::size_t b = 0; b < kBlocks; ++b) {
              std::byte* const part = unpacked.parts[b].data();
              if (table->unpacks_bf16) to_integers(shape, part);
              ASSERT_EQ(std::memcmp(part, run.integers[b].data(), run.integers[b].size()), 0)
                  << table->name << " block " << b;
            }
          }
        });
  }
}

TEST(IntegerRuns, ScoresHaveTheSameBitsInAllSetsAndFromRows) {
  for_each_case(true, [](const Side& side, BlockShape shape, const SealedParts& run,
                         std::mt19937& rng) {
    for (const simd::Table* table : simd::available()) {
      const UnpackedParts unpacked(*table, side, shape, run);
      for (const std::size_t n_q : {1U, 2U, 3U, 4U, 5U, 7U, 12U, 13U, 17U, 35U}) {
        for (const std::size_t n_blocks : {std::size_t{1}, std::size_t{kBlocks}}) {
          const std::size_t n = n_blocks * shape.block_tokens, stride = n + 3;
          const std::vector<float> q = normals(n_q * shape.head_dim, rng);
          const std::vector<float> untouched(n_q * stride, -7.0F);
          std::vector<float> expected = untouched, alone = untouched, out = untouched;
          const auto one_by_one = [&](const simd::Table& of, const auto& parts, auto& to) {
            for (std::size_t i = 0; i < n_q; ++i) {  // so that company is seen to change nothing
              of.run_scores_integers(q.data() + i * shape.head_dim, run.of(parts, n_blocks), shape,
                                     {to.data() + i * stride, 1, stride});
            }
          };
          one_by_one(simd::scalar_table(), run.integer_pointers, expected);
          one_by_one(*table, unpacked.pointers, alone);
          if (table->unpacks_bf16) {
            for (std::size_t i = 0; i < n_q; ++i) {
              for (std::size_t t = 0; t < n; ++t) {
                double exact = 0, size = 0;
                for (std::size_t c = 0; c < shape.head_dim; ++c) {
                  const double product = double{q[i * shape.head_dim + c]} * double{run.rows[t][c]};
                  exact += product;
                  size += std::abs(product);
                }
                ASSERT_NEAR(double{alone[i * stride + t]}, exact, kBf16Error * size) << t;
              }
            }
          } else {
            ASSERT_TRUE(same_bits(alone, expected)) << table->name;
          }
          table->run_scores_integers(q.data(), run.of(unpacked.pointers, n_blocks), shape,
                                     {out.data(), n_q, stride});
          ASSERT_TRUE(same_bits(out, alone)) << table->name << ", " << n_q << " queries";
          const auto from_rows = side.codec.run_scores(*table);
          if (from_rows == nullptr) continue;
          out = untouched;
          from_rows(q.data(), run.of(run.part_pointers, n_blocks), shape,
                    {out.data(), n_q, stride});
          ASSERT_TRUE(same_bits(out, alone)) << table->name << ", rows, " << n_q << " queries";
        }
      }
    }
  });
}

TEST(IntegerRuns, WeightedSumsHaveTheSameBitsInAllSetsAndFromRows) {
  for_each_case(false, [](const Side& side, BlockShape shape, const SealedParts& run,
                          std::mt19937& rng) {
    for (const simd::Table* table : simd::available()) {
      const UnpackedParts unpacked(*table, side, shape, run);
      for (const std::size_t n_q : {1U, 2U, 3U, 4U, 5U, 7U, 12U, 13U, 17U, 35U}) {
        for (const std::size_t n_blocks : {std::size_t{1}, std::size_t{kBlocks}}) {
          const auto n = static_cast<std::uint32_t>(n_blocks * shape.block_tokens);
          const std::size_t stride = n + 5;
          const std::vector<float> weights = softmax_weights(n_q * stride, rng);
          const std::vector<float> before = normals(n_q * shape.head_dim, rng);
          std::vector<float> expected = before, alone = before, out = before, w = weights;
          const auto one_by_one = [&](const simd::Table& of, const auto& parts, auto& to) {
            for (std::size_t i = 0; i < n_q; ++i) {
              std::vector<float> row(weights.begin() + static_cast<std::ptrdiff_t>(i * stride),
                                     weights.begin() + static_cast<std::ptrdiff_t>(i * stride + n));
              of.run_accumulate_integers({row.data(), 1, stride}, run.of(parts, n_blocks), shape, n,
                                         to.data() + i * shape.head_dim);
            }
          };
          one_by_one(simd::scalar_table(), run.integer_pointers, expected);
          one_by_one(*table, unpacked.pointers, alone);
          if (table->unpacks_bf16) {
            for (std::size_t i = 0; i < n_q; ++i) {
              for (std::size_t c = 0; c < shape.head_dim; ++c) {
                double exact = double{before[i * shape.head_dim + c]}, size = std::abs(exact);
                for (std::size_t t = 0; t < n; ++t) {
                  const double product = double{weights[i * stride + t]} * double{run.rows[t][c]};
                  exact += product;
                  size += std::abs(product);
                }
                ASSERT_NEAR(double{alone[i * shape.head_dim + c]}, exact, kBf16Error * size) << c;
              }
            }
          } else {
            ASSERT_TRUE(same_bits(alone, expected)) << table->name;
          }
          table->run_accumulate_integers({w.data(), n_q, stride},
                                         run.of(unpacked.pointers, n_blocks), shape, n, out.data());
          ASSERT_TRUE(same_bits(out, alone)) << table->name << ", " << n_q << " queries";
          const auto from_rows = side.codec.run_accumulate(*table);
          if (from_rows == nullptr) continue;
          out = before;
          w = weights;
          from_rows({w.data(), n_q, stride}, run.of(run.part_pointers, n_blocks), shape, n,
                    out.data());
          ASSERT_TRUE(same_bits(out, alone)) << table->name << ", rows, " << n_q << " queries";
        }
      }
    }
  });
}

// What integers of 16 bits lose: half a unit of each number.
constexpr double kHalfUnit = 0.5 / 32767;
constexpr double kFloat = 0x1p-22;  // and rounding floats, a few times

TEST(IntegerRuns, ScoresAreWithinTheErrorOfSixteenBits) {
  for_each_case(true, [](const Side&, BlockShape shape, const SealedParts& run, std::mt19937& rng) {
    const std::size_t n = run.rows.size();
    const std::vector<float> q = normals(shape.head_dim, rng);
    std::vector<float> out(n);
    simd::scalar_table().run_scores_integers(q.data(), run.of(run.integer_pointers, kBlocks), shape,
                                             {out.data(), 1, n});
    for (std::size_t t = 0; t < n; ++t) {
      double exact = 0, bound = 0;
      for (std::size_t g = 0; g < shape.head_dim; g += 32) {
        double largest = 0, magnitudes = 0, products = 0;
        for (std::size_t c = g; c < g + 32; ++c) {
          exact += double{q[c]} * double{run.rows[t][c]};
          largest = std::max(largest, std::abs(double{q[c]}));
          magnitudes += std::abs(double{run.rows[t][c]});
          products += std::abs(double{q[c]} * double{run.rows[t][c]});
        }
        bound += kHalfUnit * largest * magnitudes + 16 * kFloat * products;
      }
      ASSERT_NEAR(double{out[t]}, exact, bound) << "row " << t;
    }
  });
}

// Of a weight and an element of its row, in a block and a group of channels.
double largest_product(const SealedParts& run, const std::vector<float>& weights, std::size_t block,
                       BlockShape shape, std::size_t first_channel) {
  double largest = 0;
  for (std::size_t t = block * shape.block_tokens; t < (block + 1) * shape.block_tokens; ++t) {
    for (std::size_t c = first_channel; c < first_channel + 32; ++c) {
      largest = std::max(largest, std::abs(double{weights[t]} * double{run.rows[t][c]}));
    }
  }
  return largest;
}

TEST(IntegerRuns, WeightedSumsAreWithinTheErrorOfSixteenBits) {
  for_each_case(
      false, [](const Side&, BlockShape shape, const SealedParts& run, std::mt19937& rng) {
        const std::size_t n = run.rows.size();
        std::vector<float> weights = softmax_weights(n, rng), out(shape.head_dim);
        simd::scalar_table().run_accumulate_integers({weights.data(), 1, n},
                                                     run.of(run.integer_pointers, kBlocks), shape,
                                                     static_cast<std::uint32_t>(n), out.data());
        std::vector<double> exact(shape.head_dim), bound(shape.head_dim);
        for (std::size_t block = 0; block < kBlocks; ++block) {
          for (std::size_t g = 0; g < shape.head_dim; g += 32) {
            // A unit of the weights times the largest of the integers, which each row of a group
            // has, is one of their largest product: no larger in a stretch than in the block.
            const double unit = largest_product(run, weights, block, shape, g);
            for (std::size_t t = block * shape.block_tokens; t < (block + 1) * shape.block_tokens;
                 ++t) {
              for (std::size_t c = g; c < g + 32; ++c) {
                const double product = double{weights[t]} * double{run.rows[t][c]};
                exact[c] += product;
                bound[c] += kHalfUnit * unit + 16 * kFloat * std::abs(product);
              }
            }
          }
        }
        for (std::size_t c = 0; c < shape.head_dim; ++c) {
          ASSERT_NEAR(double{out[c]}, exact[c], bound[c]) << "channel " << c;
        }
      });
}

TEST(IntegerRuns, WeightsOfZeroChangeNothing) {
  for_each_case(
      false, [](const Side& side, BlockShape shape, const SealedParts& run, std::mt19937& rng) {
        const std::size_t n = run.rows.size();
        std::vector<float> weights = softmax_weights(n, rng);
        std::fill(weights.begin() + shape.block_tokens, weights.end(), 0.0F);
        for (const simd::Table* table : simd::available()) {
          const UnpackedParts unpacked(*table, side, shape, run);
          std::vector<float> some(shape.head_dim), all(shape.head_dim);
          table->run_accumulate_integers({weights.data(), 1, n}, run.of(unpacked.pointers, 1),
                                         shape, shape.block_tokens, some.data());
          table->run_accumulate_integers({weights.data(), 1, n}, run.of(unpacked.pointers, kBlocks),
                                         shape, static_cast<std::uint32_t>(n), all.data());
          ASSERT_TRUE(same_bits(some, all)) << table->name;
        }
      });
}

TEST(IntegerRuns, NaNAndInfinityReachTheResultAndTinyNumbersAreZero) {
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const BlockShape shape{32, 64};
  for (const KvFormat format : {KvFormat::q8_0, KvFormat::q4_0}) {
    std::mt19937 rng(3);
    const Side keys{kv_codec(format), true}, values{kv_codec(format), false};
    const SealedParts k = make_run(keys, shape, rng), v = make_run(values, shape, rng);
    for (const simd::Table* table : simd::available()) {
      const UnpackedParts of_k(*table, keys, shape, k), of_v(*table, values, shape, v);
      for (const float bad : {kNaN, -kNaN, kInfinity, -kInfinity}) {
        std::vector<float> q(2 * std::size_t{shape.head_dim}, 1.0F), scores(64);
        q[7] = bad;
        table->run_scores_integers(q.data(), k.of(of_k.pointers, 1), shape, {scores.data(), 2, 32});
        std::vector<float> weights(64, 0.5F), out(2 * std::size_t{shape.head_dim});
        weights[5] = bad;
        table->run_accumulate_integers({weights.data(), 2, 32}, v.of(of_v.pointers, 1), shape, 32,
                                       out.data());
        for (std::size_t t = 0; t < 32; ++t) {
          EXPECT_FALSE(std::isfinite(scores[t])) << table->name << ' ' << bad;
          EXPECT_TRUE(std::isfinite(scores[32 + t])) << table->name << ' ' << bad;
        }
        for (std::size_t c = 0; c < shape.head_dim; ++c) {
          EXPECT_FALSE(std::isfinite(out[c])) << table->name << ' ' << bad;
          EXPECT_TRUE(std::isfinite(out[shape.head_dim + c])) << table->name << ' ' << bad;
        }
      }
      std::vector<float> tiny(shape.head_dim, 1e-40F), scores(32, 1.0F);
      table->run_scores_integers(tiny.data(), k.of(of_k.pointers, 1), shape,
                                 {scores.data(), 1, 32});
      for (const float score : scores) EXPECT_EQ(score, 0.0F) << table->name;
    }
  }
}

}  // namespace
}  // namespace larder
