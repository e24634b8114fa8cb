#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "simd/simd.h"
#include "tensor/half.h"

namespace larder::simd {
namespace {

// Blocks packed element by element, straight from the layouts in codec/kv_codec.h.
struct Format {
  const char* name;
  std::size_t element_bytes;
  bool pairs;
  ScoresFn Table::*scores;
  AccumulateFn Table::*accumulate;
  RunScoresFn Table::*run_scores;
  RunAccumulateFn Table::*run_accumulate;
};
const Format kFormats[] = {
    {"f32", 4, false, &Table::scores_f32, &Table::accumulate_f32, &Table::run_scores_f32,
     &Table::run_accumulate_f32},
    {"f16", 2, false, &Table::scores_f16, &Table::accumulate_f16, &Table::run_scores_f16,
     &Table::run_accumulate_f16},
    {"bf16", 2, true, &Table::scores_bf16, &Table::accumulate_bf16, &Table::run_scores_bf16,
     &Table::run_accumulate_bf16},
};

float put(const Format& format, std::vector<std::byte>& part, std::size_t index, float x) {
  if (format.element_bytes == 4) {
    std::memcpy(part.data() + index * 4, &x, 4);
    return x;
  }
  const std::uint16_t h = format.pairs ? f32_to_bf16(x) : f32_to_f16(x);
  std::memcpy(part.data() + index * 2, &h, 2);
  return format.pairs ? bf16_to_f32(h) : f16_to_f32(h);
}

struct Block {
  BlockShape shape;
  std::vector<std::byte> k, v;
  std::vector<float> keys, values;  // [block_tokens, head_dim], as stored
};

Block make_block(const Format& format, BlockShape shape, std::mt19937& rng) {
  const std::size_t n = shape.block_tokens, d = shape.head_dim;
  Block block{shape, std::vector<std::byte>(n * d * format.element_bytes), {}, {}, {}};
  block.v = block.k;
  std::normal_distribution<float> normal;
  for (std::size_t t = 0; t < n; ++t) {
    for (std::size_t c = 0; c < d; ++c) {
      const std::size_t k_at = format.pairs ? ((t / 16 * (d / 2) + c / 2) * 16 + t % 16) * 2 + c % 2
                                            : (t / 16 * d + c) * 16 + t % 16;
      const std::size_t v_at = format.pairs ? (t / 2 * d + c) * 2 + t % 2 : t * d + c;
      block.keys.push_back(put(format, block.k, k_at, normal(rng)));
      block.values.push_back(put(format, block.v, v_at, normal(rng)));
    }
  }
  return block;
}

std::vector<float> random_floats(std::size_t n, std::mt19937& rng) {
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& f : x) f = normal(rng);
  return x;
}

bool same_bits(const float* a, const float* b, std::size_t n) {
  return std::memcmp(a, b, n * sizeof(float)) == 0;
}

template <class F>
void for_each_case(F&& fn) {
  std::mt19937 rng(7);
  for (const Table* table : available()) {
    for (const Format& format : kFormats) {
      for (const std::uint32_t d : {2U, 8U, 10U, 16U, 64U, 80U, 96U, 128U, 256U}) {
        for (const std::uint32_t n : {16U, 32U, 48U, 64U}) {
          SCOPED_TRACE(testing::Message() << table->name << ' ' << format.name << " head_dim " << d
                                          << " block_tokens " << n);
          fn(*table, format, make_block(format, {n, d}, rng), rng);
        }
      }
    }
  }
}

TEST(Scores, FollowTheFormula) {
  for_each_case([](const Table& table, const Format& format, const Block& block, auto& rng) {
    const std::size_t n = block.shape.block_tokens, d = block.shape.head_dim;
    const std::size_t n_q = 5, stride = n + 3;
    const std::vector<float> q = random_floats(n_q * d, rng);
    std::vector<float> out(n_q * stride, -7.0F);
    (table.*format.scores)(q.data(), {block.k.data(), nullptr}, block.shape,
                           {out.data(), n_q, stride});
    for (std::size_t i = 0; i < n_q; ++i) {
      for (std::size_t t = 0; t < n; ++t) {
        double expected = 0, size = 0;
        for (std::size_t c = 0; c < d; ++c) {
          expected += double{q[i * d + c]} * block.keys[t * d + c];
          size += std::abs(double{q[i * d + c]} * block.keys[t * d + c]);
        }
        ASSERT_NEAR(out[i * stride + t], expected, 1e-5 * size);
      }
      for (std::size_t t = n; t < stride; ++t) ASSERT_EQ(out[i * stride + t], -7.0F);
    }
  });
}

TEST(Scores, OfAQueryDoNotDependOnTheOthers) {
  for_each_case([](const Table& table, const Format& format, const Block& block, auto& rng) {
    const std::size_t n = block.shape.block_tokens, d = block.shape.head_dim;
    const std::size_t n_most = 19;
    const std::vector<float> q = random_floats(n_most * d, rng);
    std::vector<float> alone(n_most * n), together(n_most * n);
    for (std::size_t i = 0; i < n_most; ++i) {
      (table.*format.scores)(q.data() + i * d, {block.k.data(), nullptr}, block.shape,
                             {&alone[i * n], 1, n});
    }
    for (std::size_t n_q = 1; n_q <= n_most; ++n_q) {
      (table.*format.scores)(q.data(), {block.k.data(), nullptr}, block.shape,
                             {together.data(), n_q, n});
      ASSERT_TRUE(same_bits(alone.data(), together.data(), n_q * n)) << n_q << " queries";
    }
  });
}

TEST(Accumulate, FollowsTheFormulaForAnyNumberOfTokens) {
  for_each_case([](const Table& table, const Format& format, const Block& block, auto& rng) {
    const std::size_t n = block.shape.block_tokens, d = block.shape.head_dim;
    const std::size_t n_q = 3, stride = n + 5;
    std::vector<float> weights = random_floats(n_q * stride, rng);
    for (const std::uint32_t n_tokens : {0U, 1U, 2U, 15U, static_cast<std::uint32_t>(n)}) {
      const std::vector<float> before = random_floats(n_q * d, rng);
      std::vector<float> out = before;
      (table.*format.accumulate)({weights.data(), n_q, stride}, {block.v.data(), nullptr},
                                 block.shape, n_tokens, out.data());
      for (std::size_t i = 0; i < n_q; ++i) {
        for (std::size_t c = 0; c < d; ++c) {
          double expected = before[i * d + c], size = std::abs(expected);
          for (std::size_t t = 0; t < n_tokens; ++t) {
            expected += double{weights[i * stride + t]} * block.values[t * d + c];
            size += std::abs(double{weights[i * stride + t]} * block.values[t * d + c]);
          }
          ASSERT_NEAR(out[i * d + c], expected, 1e-5 * size) << n_tokens << " tokens";
        }
      }
    }
  });
}

TEST(Accumulate, OfAQueryDoesNotDependOnTheOthers) {
  for_each_case([](const Table& table, const Format& format, const Block& block, auto& rng) {
    const std::size_t n = block.shape.block_tokens, d = block.shape.head_dim;
    const std::size_t n_most = 11;
    std::vector<float> weights = random_floats(n_most * n, rng);
    const std::vector<float> before = random_floats(n_most * d, rng);
    for (const auto n_tokens : {static_cast<std::uint32_t>(n), static_cast<std::uint32_t>(n - 1)}) {
      std::vector<float> alone = before;
      for (std::size_t i = 0; i < n_most; ++i) {
        (table.*format.accumulate)({&weights[i * n], 1, n}, {block.v.data(), nullptr}, block.shape,
                                   n_tokens, &alone[i * d]);
      }
      for (std::size_t n_q = 1; n_q <= n_most; ++n_q) {
        std::vector<float> together = before;
        (table.*format.accumulate)({weights.data(), n_q, n}, {block.v.data(), nullptr}, block.shape,
                                   n_tokens, together.data());
        ASSERT_TRUE(same_bits(alone.data(), together.data(), n_q * d)) << n_q << " queries";
      }
    }
  });
}

TEST(Accumulate, DoesNotLookAtRowsNotYetWritten) {
  for_each_case([](const Table& table, const Format& format, const Block& block, auto& rng) {
    const std::size_t n = block.shape.block_tokens, d = block.shape.head_dim;
    for (const std::uint32_t n_tokens : {1U, 6U, 15U}) {
      std::vector<std::byte> spoilt = block.v;
      for (std::size_t t = n_tokens; t < n; ++t) {
        for (std::size_t c = 0; c < d; ++c) {
          put(format, spoilt, format.pairs ? (t / 2 * d + c) * 2 + t % 2 : t * d + c,
              std::numeric_limits<float>::quiet_NaN());
        }
      }
      std::vector<float> weights = random_floats(n, rng);
      std::vector<float> expected(d), out(d);
      (table.*format.accumulate)({weights.data(), 1, n}, {block.v.data(), nullptr}, block.shape,
                                 n_tokens, expected.data());
      for (std::size_t t = n_tokens; t < n; ++t) weights[t] = std::nanf("");
      (table.*format.accumulate)({weights.data(), 1, n}, {spoilt.data(), block.v.data()},
                                 block.shape, n_tokens, out.data());
      ASSERT_TRUE(same_bits(expected.data(), out.data(), d)) << n_tokens << " tokens";
    }
  });
}

// Blocks that together make a run, with the addresses of their parts.
struct RunOfBlocks {
  explicit RunOfBlocks(std::vector<Block> list) : blocks(std::move(list)) {
    for (const Block& block : blocks) {
      k_parts.push_back(block.k.data());
      v_parts.push_back(block.v.data());
      keys.insert(keys.end(), block.keys.begin(), block.keys.end());
      values.insert(values.end(), block.values.begin(), block.values.end());
    }
    k_parts.push_back(v_parts[0]);  // what is read next
  }
  KvRun k() const { return {k_parts.data(), k_parts.size() - 1, 1}; }
  KvRun v() const { return {v_parts.data(), v_parts.size(), 0}; }

  std::vector<Block> blocks;
  std::vector<const std::byte*> k_parts, v_parts;
  std::vector<float> keys, values;  // [rows, head_dim]
};

template <class F>
void for_each_run(F&& fn) {
  std::mt19937 rng(17);
  for (const Table* table : available()) {
    for (const Format& format : kFormats) {
      for (const std::uint32_t d : {2U, 10U, 32U, 64U, 80U, 128U, 240U}) {
        const std::uint32_t n = std::array{16U, 32U, 48U}[d % 3];
        std::vector<Block> blocks;
        for (std::size_t b = 0; b < 1 + 600 / n; ++b) {
          blocks.push_back(make_block(format, {n, d}, rng));
        }
        SCOPED_TRACE(testing::Message() << table->name << ' ' << format.name << " head_dim " << d
                                        << " block_tokens " << n);
        fn(*table, format, RunOfBlocks(std::move(blocks)), rng);
      }
    }
  }
}

// What the set makes of queries and weights.
float as_used(const Table& table, const Format& format, float x) {
  return format.pairs && table.rounds_bf16 ? bf16_to_f32(f32_to_bf16(x)) : x;
}

TEST(RunScores, FollowTheFormula) {
  for_each_run([](const Table& table, const Format& format, const RunOfBlocks& run, auto& rng) {
    const BlockShape shape = run.blocks[0].shape;
    const std::size_t n = run.blocks.size() * shape.block_tokens, d = shape.head_dim;
    const std::size_t n_q = 15, stride = n + 3;
    const std::vector<float> q = random_floats(n_q * d, rng);
    std::vector<float> out(n_q * stride, -7.0F);
    (table.*format.run_scores)(q.data(), run.k(), shape, {out.data(), n_q, stride});
    for (std::size_t i = 0; i < n_q; ++i) {
      for (std::size_t t = 0; t < n; ++t) {
        double expected = 0, size = 0;
        for (std::size_t c = 0; c < d; ++c) {
          const double x = double{as_used(table, format, q[i * d + c])} * run.keys[t * d + c];
          expected += x;
          size += std::abs(x);
        }
        ASSERT_NEAR(out[i * stride + t], expected, 1e-5 * size);
      }
      for (std::size_t t = n; t < stride; ++t) ASSERT_EQ(out[i * stride + t], -7.0F);
    }
  });
}

TEST(RunScores, OfAQueryDoNotDependOnTheOthersOrTheOtherBlocks) {
  for_each_run([](const Table& table, const Format& format, const RunOfBlocks& run, auto& rng) {
    const BlockShape shape = run.blocks[0].shape;
    const std::size_t n = 3 * shape.block_tokens, d = shape.head_dim, n_most = 27;
    KvRun three = run.k();
    three.n_blocks = 3;
    three.n_next = 1;
    const std::vector<float> q = random_floats(n_most * d, rng);
    std::vector<float> alone(n_most * n), together(n_most * n);
    for (std::size_t i = 0; i < n_most; ++i) {
      for (std::size_t b = 0; b < 3; ++b) {
        (table.*format.run_scores)(q.data() + i * d, {three.parts + b, 1, 0}, shape,
                                   {&alone[i * n + b * shape.block_tokens], 1, n});
      }
    }
    for (std::size_t n_q = 1; n_q <= n_most; ++n_q) {
      (table.*format.run_scores)(q.data(), three, shape, {together.data(), n_q, n});
      ASSERT_TRUE(same_bits(alone.data(), together.data(), n_q * n)) << n_q << " queries";
    }
  });
}

TEST(RunAccumulate, FollowsTheFormulaForAnyNumberOfTokens) {
  for_each_run([](const Table& table, const Format& format, const RunOfBlocks& run, auto& rng) {
    const BlockShape shape = run.blocks[0].shape;
    const std::size_t n = run.blocks.size() * shape.block_tokens, d = shape.head_dim;
    const std::size_t n_q = 7, stride = n + 5;
    std::vector<float> weights = random_floats(n_q * stride, rng);
    for (const std::size_t n_tokens : {std::size_t{0}, std::size_t{1}, std::size_t{77}, n - 1, n}) {
      const std::vector<float> before = random_floats(n_q * d, rng);
      std::vector<float> out = before;
      (table.*format.run_accumulate)({weights.data(), n_q, stride}, run.v(), shape,
                                     static_cast<std::uint32_t>(n_tokens), out.data());
      for (std::size_t i = 0; i < n_q; ++i) {
        for (std::size_t c = 0; c < d; ++c) {
          double expected = before[i * d + c], size = std::abs(expected);
          for (std::size_t t = 0; t < n_tokens; ++t) {
            const double x =
                double{as_used(table, format, weights[i * stride + t])} * run.values[t * d + c];
            expected += x;
            size += std::abs(x);
          }
          ASSERT_NEAR(out[i * d + c], expected, 1e-5 * size) << n_tokens << " tokens";
        }
      }
    }
  });
}

TEST(RunAccumulate, OfAQueryDoesNotDependOnTheOthersOrOnZeroWeights) {
  for_each_run([](const Table& table, const Format& format, const RunOfBlocks& run, auto& rng) {
    const BlockShape shape = run.blocks[0].shape;
    const std::size_t d = shape.head_dim, n_most = 35, n = 2 * shape.block_tokens;
    const std::uint32_t n_tokens = shape.block_tokens + 5;  // of the weights that are not zero
    std::vector<float> weights = random_floats(n_most * n, rng);
    for (std::size_t i = 0; i < n_most; ++i) {
      std::fill_n(&weights[i * n], 3, 0.0F);
      std::fill_n(&weights[i * n + n_tokens], n - n_tokens, 0.0F);
    }
    std::vector<float> alone(n_most * d);
    for (std::size_t i = 0; i < n_most; ++i) {
      (table.*format.run_accumulate)({&weights[i * n], 1, n}, run.v(), shape, n_tokens,
                                     &alone[i * d]);
    }
    for (std::size_t n_q = 1; n_q <= n_most; ++n_q) {
      std::vector<float> together(n_most * d);
      (table.*format.run_accumulate)({weights.data(), n_q, n}, run.v(), shape,
                                     static_cast<std::uint32_t>(n), together.data());
      ASSERT_TRUE(same_bits(alone.data(), together.data(), n_q * d)) << n_q << " queries";
    }
  });
}

TEST(RunAccumulate, DoesNotLookAtRowsNotYetWritten) {
  for_each_run([](const Table& table, const Format& format, const RunOfBlocks& run, auto& rng) {
    const BlockShape shape = run.blocks[0].shape;
    const std::size_t d = shape.head_dim;
    for (const std::uint32_t n_tokens : {1U, 6U, shape.block_tokens + 15U}) {
      std::vector<Block> spoilt = run.blocks;
      for (std::size_t t = n_tokens; t < spoilt.size() * shape.block_tokens; ++t) {
        auto& v = spoilt[t / shape.block_tokens].v;
        const std::size_t row = t % shape.block_tokens;
        for (std::size_t c = 0; c < d; ++c) {
          put(format, v, format.pairs ? (row / 2 * d + c) * 2 + row % 2 : row * d + c,
              std::numeric_limits<float>::quiet_NaN());
        }
      }
      const RunOfBlocks unwritten(std::move(spoilt));
      std::vector<float> weights = random_floats(2 * shape.block_tokens, rng);
      std::vector<float> expected(d), out(d);
      (table.*format.run_accumulate)({weights.data(), 1, 0}, run.v(), shape, n_tokens,
                                     expected.data());
      for (std::size_t t = n_tokens; t < weights.size(); ++t) weights[t] = std::nanf("");
      (table.*format.run_accumulate)({weights.data(), 1, 0}, unwritten.v(), shape, n_tokens,
                                     out.data());
      ASSERT_TRUE(same_bits(expected.data(), out.data(), d)) << n_tokens << " tokens";
    }
  });
}

}  // namespace
}  // namespace larder::simd
