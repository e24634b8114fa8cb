// What formats of keys before rope know of a layer whose keys are drawn from N(0, 1).
#pragma once

#include <cmath>
#include <memory>
#include <random>

#include "kernels/attention.h"
#include "kernels/turned_keys.h"

namespace larder {

struct RandomKeys {
  KeyTable table;
  BlockAngles angles;
};

/// Frequencies as rope has them; with heads of 64 channels and more half of them turn, and with
/// blocks of 32 tokens adjacent ones.
inline RopeTable random_rope(const AttentionShape& shape) {
  RopeTable rope;
  const std::size_t n_half = shape.head_dim / (shape.head_dim < 64 ? 2 : 4);
  for (std::size_t i = 0; i < n_half; ++i) {
    const double exponent = -static_cast<double>(i) / static_cast<double>(n_half);
    rope.inv_freq.push_back(static_cast<float>(std::pow(10000.0, exponent)));
  }
  rope.adjacent = shape.block_tokens == 32;
  return rope;
}

/// The same for the same shape and format.
inline std::unique_ptr<const RandomKeys> random_keys(const BeforeRope& format,
                                                     const AttentionShape& shape,
                                                     std::uint32_t n_context) {
  std::mt19937 rng(99);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> values;
  const std::size_t n = std::size_t{1} << format.bits;
  for (std::size_t i = 0; i < n; ++i) {
    const auto at = static_cast<float>(2 * i + 1) / static_cast<float>(n) - 1;  // in (-1, 1)
    values.push_back(2.6F * at * std::sqrt(std::abs(at)));
  }
  KeyTable table;
  table.book = make_key_book(format.bits, values);
  for (std::size_t i = 0; i < std::size_t{shape.n_kv_heads} * shape.head_dim; ++i) {
    table.mean.push_back(0.2F * uniform(rng));
    table.spread.push_back(1 + 0.3F * uniform(rng));
    table.inverse.push_back(1 / table.spread.back());
  }
  return std::make_unique<const RandomKeys>(
      RandomKeys{std::move(table), BlockAngles(random_rope(shape), shape.block_tokens, n_context)});
}

}  // namespace larder
