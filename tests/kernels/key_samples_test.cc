// Blocks retrieved by a few of their keys, against the formula.
#include "kernels/key_samples.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/chooser.h"
#include "tensor/half.h"

namespace larder {
namespace {

using Row = std::vector<float>;

Row rounded(Row row) {
  for (float& x : row) x = bf16_to_f32(f32_to_bf16(x));
  return row;
}

/// Sequence 0 of a case, one KV head: its rows and what its blocks come to.
class Past {
 public:
  Past(const AttentionCase& c, const BlockRule& rule, std::uint32_t kv_head)
      : c_(c), rule_(rule), head_(kv_head) {}

  /// The queries of a row, summed over the group.
  Row query(std::uint32_t row) const {
    const std::size_t d = c_.shape.head_dim, group = c_.shape.n_heads / c_.shape.n_kv_heads;
    Row sum(d);
    for (std::size_t g = 0; g < group; ++g) {
      const float* q = c_.q[0].data() + (row * c_.shape.n_heads + head_ * group + g) * d;
      for (std::size_t i = 0; i < d; ++i) sum[i] += q[i];
    }
    return sum;
  }
  Row key(std::uint32_t row) const {
    const std::size_t d = c_.shape.head_dim;
    const float* k = c_.key[0].data() + (std::size_t{row} * c_.shape.n_kv_heads + head_) * d;
    return {k, k + d};
  }
  std::uint32_t n() const { return c_.shape.block_tokens; }
  Row sample(std::uint32_t block) const { return rounded(query((block + 1) * n() - 1)); }

  /// The sum of the keys of the block with the most scores by the samples of the blocks behind it.
  Row representatives(std::uint32_t block) const {
    std::vector<double> local(c_.shape.head_dim);
    for (std::uint32_t b = block + 1; b <= block + rule_.n_local; ++b) {
      const Row s = sample(b);
      for (std::size_t i = 0; i < local.size(); ++i) local[i] += double{s[i]};
    }
    std::vector<std::uint32_t> rows(n());
    std::iota(rows.begin(), rows.end(), block * n());
    const auto score = [&](std::uint32_t row) {
      const Row k = key(row);
      return std::inner_product(local.begin(), local.end(), k.begin(), 0.0);
    };
    std::stable_sort(rows.begin(), rows.end(),
                     [&](std::uint32_t a, std::uint32_t b) { return score(a) > score(b); });
    rows.resize(std::min(rule_.n_representatives, n()));
    Row sum(c_.shape.head_dim);
    for (const std::uint32_t row : rows) {
      const Row k = key(row);
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += k[i];
    }
    return rounded(sum);
  }

 private:
  const AttentionCase& c_;
  const BlockRule& rule_;
  const std::uint32_t head_;
};

/// One query or some that choose together: first blocks, newest blocks, and of the others those
/// whose representatives get the most.
void check_list(const Past& past, const BlockRule& rule, const Row& query, std::uint32_t own,
                std::span<const BlockId> list, std::span<const BlockId> all) {
  ASSERT_EQ(list.size(), rule.n_chosen(own) + 1);
  EXPECT_EQ(list.back(), all[own]);
  double least_chosen = 1e300, most_left = -1e300;
  std::size_t next = 0;
  for (std::uint32_t b = 0; b < own; ++b) {
    const bool is_chosen = list[next] == all[b];
    next += is_chosen ? 1 : 0;
    if (b < rule.n_first || b + rule.n_local >= own) {
      EXPECT_TRUE(is_chosen) << b;
      continue;
    }
    const Row keys = past.representatives(b);
    double score = 0;
    for (std::size_t i = 0; i < keys.size(); ++i) score += double{query[i]} * double{keys[i]};
    (is_chosen ? least_chosen : most_left) =
        is_chosen ? std::min(least_chosen, score) : std::max(most_left, score);
  }
  ASSERT_EQ(next + 1, list.size());  // in their order
  ASSERT_GE(least_chosen, most_left - 1e-3);
}

TEST(KeySamples, RetrieveTheBlocksWhoseRepresentativesFit) {
  for (std::uint32_t seed = 0; seed < 6; ++seed) {
    std::mt19937 random(seed);
    AttentionShape shape = random_choice_shape(random);
    shape.block_tokens = seed % 2 == 0 ? 16 : 32;
    AttentionCase c = make_case(shape, KvFormat::f32, KvFormat::f32, {400}, random);
    c.marks = BlockMarks::samples;
    const Reads reads{{.n_blocks = 8,
                       .n_first = seed % 3,
                       .n_local = 1 + seed % 4,
                       .marks = BlockMarks::samples,
                       .n_representatives = std::array{4U, 1U, 40U}[seed % 3]},
                      300};
    const BlockRule& rule = reads.rule;
    const simd::Table& table = *simd::available()[seed % simd::available().size()];
    ThreadPool threads(2);
    Chooser chooser(c, reads, 2);
    std::size_t n_together = 0, n_apart = 0;
    chooser.check_with(
        [&](const Compute& compute, const BlockChoice::Call& call, BlockChoice& choice) {
          const std::uint32_t n = shape.block_tokens, n_past = call.items[0].n_past;
          for (const AttentionItem& item : choice.choose(compute, call, 0)) {
            const std::uint32_t position = n_past + item.first_row, own = position / n;
            const bool together = position < 300;
            ASSERT_EQ(item.n_past, rule.n_chosen(own) * n + position % n);
            ASSERT_LE(position % n + item.n_rows, n);
            (together ? n_together : n_apart) += item.n_rows;
            if (own == 0 || random() % 8 != 0) continue;
            for (std::uint32_t head = 0; head < shape.n_kv_heads; ++head) {
              const Past past(c, rule, head);
              check_list(past, rule, together ? past.sample(own - 1) : past.query(position), own,
                         item.heads[head].blocks, call.items[0].heads[head].blocks);
            }
          }
        });
    PagedCache cache(c, random);
    cache.run(random_schedule(c, 90, random), {table, threads}, by(chooser));
    EXPECT_EQ(n_together, 300U) << "seed " << seed;
    EXPECT_EQ(n_apart, 100U);
  }
}

}  // namespace
}  // namespace larder
