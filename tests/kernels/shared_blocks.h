// Sequences that share their first blocks, against the same with copies of their own.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <utility>

#include "kernels/attention_cache.h"

namespace larder {

/// Makes the first `n_shared` rows of all sequences the first one's. Then each runs alone with
/// blocks of its own, and all run together over shared ones: the rows behind must have the same
/// bits. REQUIRES: n_shared is whole blocks, fewer than the rows of any sequence.
inline void expect_sharing_changes_nothing(AttentionCase c, std::uint32_t n_shared,
                                           const simd::Table& table, std::mt19937& rng) {
  ThreadPool one(1), two(2);
  const auto n_sequences = static_cast<std::uint32_t>(c.lengths.size());
  for (std::uint32_t s = 1; s < n_sequences; ++s) {
    for (auto* rows : {&c.q, &c.key, &c.value}) {
      const std::size_t row_floats = (*rows)[0].size() / c.lengths[0];
      std::copy_n((*rows)[0].begin(), n_shared * row_floats, (*rows)[s].begin());
    }
  }
  Schedule alone, together = {{{0, n_shared}}};
  for (std::uint32_t s = 0; s < n_sequences; ++s) {
    alone.push_back({{s, n_shared}});
    for (std::uint32_t n = n_shared; n < c.lengths[s]; ++n) alone.push_back({{s, 1}});
  }
  const std::uint32_t longest = *std::max_element(c.lengths.begin(), c.lengths.end());
  for (std::uint32_t n = n_shared; n < longest; ++n) {
    Step step;
    for (std::uint32_t s = 0; s < n_sequences; ++s) {
      if (n < c.lengths[s]) step.emplace_back(s, 1);
    }
    std::shuffle(step.begin(), step.end(), rng);
    together.push_back(step);
  }
  PagedCache expected(c, rng), shared(c, rng, n_shared);
  expected.run(alone, {table, one}, attend);
  shared.run(together, {table, two}, attend);
  const std::size_t row_floats = std::size_t{c.shape.n_heads} * c.shape.head_dim;
  for (std::uint32_t s = 0; s < n_sequences; ++s) {
    const auto begin = static_cast<std::ptrdiff_t>(n_shared * row_floats);
    ASSERT_TRUE(std::equal(expected.out()[s].begin() + begin, expected.out()[s].end(),
                           shared.out()[s].begin() + begin))
        << "sequence " << s;
  }
}

}  // namespace larder
