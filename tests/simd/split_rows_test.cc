// f16 rows in sets that multiply them as sums of bf16 numbers: the bits of the formulas in
// simd/amx/kv_split.h, and the bound of the error that is stated there.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "simd/simd.h"
#include "tensor/half.h"

namespace larder::simd {
namespace {

// Parts of x and of y, as their products are added, and what is left out of x y, relative.
constexpr std::pair<int, int> kProducts[] = {{1, 1}, {0, 1}, {1, 0}, {0, 0}};
constexpr double kLeftOut = 0x1p-17;

const BlockShape kShapes[] = {{16, 2},  {16, 10},  {32, 32},   {48, 48},   {32, 64},
                              {64, 80}, {16, 128}, {128, 240}, {112, 256}, {32, 1024}};
constexpr std::size_t kMostTokens = 700;  // of a run

using Numbers = std::function<float(std::mt19937&)>;

float normal(std::mt19937& rng) { return std::normal_distribution<float>()(rng); }

/// A run of K or V parts and what they hold.
struct RawRun {
  std::vector<std::vector<std::byte>> parts;
  std::vector<const std::byte*> pointers;
  std::vector<float> rows;  // [n, head_dim]
  BlockShape shape;
  std::size_t n = 0;

  KvRun run() const { return {pointers.data(), parts.size(), 0}; }
};

void put(RawRun& run, bool is_key, std::size_t token, std::size_t channel, float x) {
  const std::size_t d = run.shape.head_dim, row = token % run.shape.block_tokens;
  const std::size_t at = is_key ? (row / 16 * d + channel) * 16 + row % 16 : row * d + channel;
  const std::uint16_t half = f32_to_f16(x);
  std::memcpy(run.parts[token / run.shape.block_tokens].data() + at * sizeof half, &half,
              sizeof half);
  run.rows[token * d + channel] = f16_to_f32(half);
}

RawRun make_run(BlockShape shape, bool is_key, const Numbers& numbers, std::mt19937& rng) {
  RawRun run;
  run.shape = shape;
  const std::size_t n_blocks = kMostTokens / shape.block_tokens;
  run.n = n_blocks * shape.block_tokens;
  const std::size_t part_bytes =
      std::size_t{shape.block_tokens} * shape.head_dim * sizeof(std::uint16_t);
  run.parts.assign(n_blocks, std::vector<std::byte>(part_bytes));
  run.rows.resize(run.n * shape.head_dim);
  for (std::size_t t = 0; t < run.n; ++t) {
    for (std::size_t c = 0; c < shape.head_dim; ++c) put(run, is_key, t, c, numbers(rng));
  }
  for (const auto& part : run.parts) run.pointers.push_back(part.data());
  return run;
}

/// The parts of a query or weight, and of a stored number.
std::vector<float> rounded_parts(float x) {
  std::vector<float> parts;
  for (int p = 0; p < 2; ++p) {
    parts.push_back(bf16_to_f32(f32_to_bf16(x)));
    x -= parts.back();
  }
  return parts;
}
std::vector<float> stored_parts(float y) {
  std::vector<float> parts;
  for (int p = 0; p < 2; ++p) {
    std::uint32_t bits;
    std::memcpy(&bits, &y, 4);
    bits &= 0xffff0000U;
    parts.emplace_back();
    std::memcpy(&parts.back(), &bits, 4);
    y -= parts.back();
  }
  return parts;
}

/// sum += <x, y> of a step of n numbers, which stand so far apart.
void add_step(const float* x, const float* y, std::size_t y_apart, std::size_t n, float& sum) {
  std::vector<std::vector<float>> of_x, of_y;
  for (std::size_t i = 0; i < n; ++i) {
    of_x.push_back(rounded_parts(x[i]));
    of_y.push_back(stored_parts(y[i * y_apart]));
  }
  for (const auto& [a, b] : kProducts) {
    float sums[2] = {};
    for (std::size_t i = 0; i < n; ++i) {
      sums[i % 2] = std::fmaf(of_x[i][a], of_y[i][b], sums[i % 2]);
    }
    sum += sums[0] + sums[1];
  }
}

float score_of(const float* q, const float* row, std::size_t head_dim) {
  float sum = 0;
  for (std::size_t c = 0; c < head_dim; c += 32) {
    add_step(q + c, row + c, 1, std::min<std::size_t>(32, head_dim - c), sum);
  }
  return sum;
}

/// Of one channel; rows of `n` tokens.
float sum_of(const float* weights, const RawRun& v, std::size_t channel, std::size_t n, float sum) {
  const std::size_t step = v.shape.block_tokens % 32 == 0 ? 32 : 16, d = v.shape.head_dim;
  for (std::size_t t = 0; t < n; t += step) {
    add_step(weights + t, &v.rows[t * d + channel], d, std::min(step, n - t), sum);
  }
  return sum;
}

/// Sets that multiply so; tests of them are skipped where the machine has none.
std::vector<const Table*> splitting_sets() {
  std::vector<const Table*> sets;
  for (const Table* table : available()) {
    if (table->name == "amx") sets.push_back(table);
  }
  return sets;
}

template <class F>
void for_each_run(bool is_key, const Numbers& numbers, F&& fn) {
  const auto sets = splitting_sets();
  if (sets.empty()) GTEST_SKIP() << "no set here splits rows";
  std::mt19937 rng(29);
  for (const Table* table : sets) {
    for (const BlockShape& shape : kShapes) {
      SCOPED_TRACE(testing::Message() << table->name << " head_dim " << shape.head_dim
                                      << " block_tokens " << shape.block_tokens);
      fn(*table, make_run(shape, is_key, numbers, rng), rng);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

std::vector<float> make_numbers(std::size_t n, const Numbers& numbers, std::mt19937& rng) {
  std::vector<float> x(n);
  for (float& f : x) f = numbers(rng);
  return x;
}

TEST(SplitRows, ScoresHaveTheBitsOfTheFormulas) {
  for_each_run(true, normal, [](const Table& table, const RawRun& k, auto& rng) {
    const std::size_t d = k.shape.head_dim, n_q = 53;
    const std::vector<float> q = make_numbers(n_q * d, normal, rng);
    std::vector<float> out(n_q * k.n);
    table.run_scores_f16(q.data(), k.run(), k.shape, {out.data(), n_q, k.n});
    for (const std::size_t i : {std::size_t{0}, std::size_t{30}, std::size_t{47}, n_q - 1}) {
      for (std::size_t t = i % 7; t < k.n; t += 7) {
        ASSERT_EQ(out[i * k.n + t], score_of(&q[i * d], &k.rows[t * d], d)) << t;
      }
    }
  });
}

TEST(SplitRows, SumsHaveTheBitsOfTheFormulas) {
  for_each_run(false, normal, [](const Table& table, const RawRun& v, auto& rng) {
    const std::size_t d = v.shape.head_dim, n_q = 53;
    std::vector<float> weights = make_numbers(n_q * v.n, normal, rng);
    for (const std::size_t n : {std::size_t{5}, std::size_t{261}, v.n}) {
      std::vector<float> out(n_q * d, 0.5F);
      table.run_accumulate_f16({weights.data(), n_q, v.n}, v.run(), v.shape,
                               static_cast<std::uint32_t>(n), out.data());
      for (const std::size_t i : {std::size_t{0}, std::size_t{30}, n_q - 1}) {
        for (std::size_t c = i % 2; c < d; c += 5) {
          ASSERT_EQ(out[i * d + c], sum_of(&weights[i * v.n], v, c, n, 0.5F)) << c;
        }
      }
    }
  });
}

/// What is stated in the header, and n_added roundings to float.
struct Bound {
  double sum = 0, size = 0, small = 0;

  void add(double x, double y) {
    sum += x * y;
    size += std::abs(x * y);
    small += std::abs(x) + std::abs(y) + 1;
  }
  double error(std::size_t n_added) const {
    return (kLeftOut + static_cast<double>(n_added) * 0x1p-24) * size + 0x1p-122 * small;
  }
};
// Those of a step's products, their sums and the additions of these.
std::size_t roundings(std::size_t n) { return 17 + (n + 15) / 16 * 4; }

/// Numbers of many sizes; f16 rows hold some of them as denormal numbers, or as zero.
float of_any_size(std::mt19937& rng) { return normal(rng) * std::exp(1.5F * normal(rng)); }
float denormal_halves(std::mt19937& rng) { return normal(rng) * 1e-6F; }
float denormal_floats(std::mt19937& rng) { return normal(rng) * 1e-38F; }
float below_one(std::mt19937& rng) { return std::exp(-std::abs(8 * normal(rng))); }
float large(std::mt19937& rng) { return normal(rng) * 1e4F; }

TEST(SplitRows, ScoresKeepTheBound) {
  for (const auto& [queries, rows] :
       std::vector<std::pair<Numbers, Numbers>>{{normal, of_any_size},
                                                {of_any_size, of_any_size},
                                                {large, denormal_halves},
                                                {denormal_floats, normal}}) {
    for_each_run(true, rows, [queries = queries](const Table& table, const RawRun& k, auto& rng) {
      const std::size_t d = k.shape.head_dim, n_q = 4;
      const std::vector<float> q = make_numbers(n_q * d, queries, rng);
      std::vector<float> out(n_q * k.n);
      table.run_scores_f16(q.data(), k.run(), k.shape, {out.data(), n_q, k.n});
      for (std::size_t i = 0; i < n_q; ++i) {
        for (std::size_t t = 0; t < k.n; ++t) {
          Bound bound;
          for (std::size_t c = 0; c < d; ++c) bound.add(q[i * d + c], k.rows[t * d + c]);
          ASSERT_NEAR(out[i * k.n + t], bound.sum, bound.error(roundings(d)));
        }
      }
    });
  }
}

TEST(SplitRows, SumsKeepTheBound) {
  for (const auto& [sizes, rows] :
       std::vector<std::pair<Numbers, Numbers>>{{below_one, normal},
                                                {below_one, of_any_size},
                                                {below_one, denormal_halves},
                                                {denormal_floats, normal}}) {
    for_each_run(false, rows, [sizes = sizes](const Table& table, const RawRun& v, auto& rng) {
      const std::size_t d = v.shape.head_dim, n_q = 2;
      std::vector<float> weights = make_numbers(n_q * v.n, sizes, rng);
      std::vector<float> out(n_q * d);
      table.run_accumulate_f16({weights.data(), n_q, v.n}, v.run(), v.shape,
                               static_cast<std::uint32_t>(v.n), out.data());
      for (std::size_t i = 0; i < n_q; ++i) {
        for (std::size_t c = 0; c < d; ++c) {
          Bound bound;
          for (std::size_t t = 0; t < v.n; ++t) bound.add(weights[i * v.n + t], v.rows[t * d + c]);
          ASSERT_NEAR(out[i * d + c], bound.sum, bound.error(roundings(v.n)));
        }
      }
    });
  }
}

// The root mean square error of scores of normal numbers.
TEST(SplitRows, ErrorsAreFarBelowTheBoundOnAverage) {
  for_each_run(true, normal, [](const Table& table, const RawRun& k, auto& rng) {
    const std::size_t d = k.shape.head_dim, n_q = 4;
    if (d < 32) return;
    const std::vector<float> q = make_numbers(n_q * d, normal, rng);
    std::vector<float> out(n_q * k.n);
    table.run_scores_f16(q.data(), k.run(), k.shape, {out.data(), n_q, k.n});
    double sum = 0;
    for (std::size_t i = 0; i < out.size(); ++i) {
      double exact = 0;
      for (std::size_t c = 0; c < d; ++c) {
        exact += double{q[i / k.n * d + c]} * k.rows[i % k.n * d + c];
      }
      sum += (out[i] - exact) * (out[i] - exact);
    }
    EXPECT_LT(std::sqrt(sum / static_cast<double>(out.size())),
              std::sqrt(static_cast<double>(d)) * 0x1p-18);
  });
}

TEST(SplitRows, OddNumbersOfARowStayThere) {
  for (const float odd :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
        -std::numeric_limits<float>::infinity()}) {
    for_each_run(true, normal, [&](const Table& table, RawRun k, auto& rng) {
      const std::size_t d = k.shape.head_dim, n_q = 5;
      const std::vector<float> q = make_numbers(n_q * d, normal, rng);
      std::vector<float> before(n_q * k.n), after(n_q * k.n);
      table.run_scores_f16(q.data(), k.run(), k.shape, {before.data(), n_q, k.n});
      put(k, true, 21, d - 1, odd);
      table.run_scores_f16(q.data(), k.run(), k.shape, {after.data(), n_q, k.n});
      for (std::size_t i = 0; i < after.size(); ++i) {
        if (i % k.n == 21) {
          ASSERT_TRUE(std::isnan(after[i]));
        } else {
          ASSERT_EQ(after[i], before[i]) << i % k.n;
        }
      }
    });
    for_each_run(false, normal, [&](const Table& table, RawRun v, auto& rng) {
      const std::size_t d = v.shape.head_dim, n_q = 5;
      std::vector<float> weights = make_numbers(n_q * v.n, normal, rng);
      std::vector<float> before(n_q * d), after(n_q * d);
      const auto add = [&](std::vector<float>& out) {
        table.run_accumulate_f16({weights.data(), n_q, v.n}, v.run(), v.shape,
                                 static_cast<std::uint32_t>(v.n), out.data());
      };
      add(before);
      put(v, false, 21, d - 1, odd);
      add(after);
      for (std::size_t i = 0; i < after.size(); ++i) {
        if (i % d == d - 1) {
          ASSERT_TRUE(std::isnan(after[i]));
        } else {
          ASSERT_EQ(after[i], before[i]) << i % d;
        }
      }
    });
  }
}

// Of a query: its own scores alone.
TEST(SplitRows, OddNumbersOfAQueryStayThere) {
  for_each_run(true, normal, [](const Table& table, const RawRun& k, auto& rng) {
    const std::size_t d = k.shape.head_dim, n_q = 5;
    std::vector<float> q = make_numbers(n_q * d, normal, rng);
    std::vector<float> before(n_q * k.n), after(n_q * k.n);
    table.run_scores_f16(q.data(), k.run(), k.shape, {before.data(), n_q, k.n});
    q[2 * d] = std::numeric_limits<float>::max();
    table.run_scores_f16(q.data(), k.run(), k.shape, {after.data(), n_q, k.n});
    for (std::size_t i = 0; i < after.size(); ++i) {
      if (i / k.n == 2) {
        ASSERT_TRUE(std::isnan(after[i]));
      } else {
        ASSERT_EQ(after[i], before[i]);
      }
    }
  });
}

}  // namespace
}  // namespace larder::simd
