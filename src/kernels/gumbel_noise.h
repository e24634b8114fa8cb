// Noise that makes a softmax draw more evenly, by lot.
#pragma once

#include <cstdint>
#include <span>

namespace larder {

/// What the noise of a query depends on, beside the places of the rows it sees.
struct NoiseLot {
  std::uint32_t seed, layer, head;
  std::uint32_t position;  // of the query in the text
};

/// values[j] += Gumbel noise -log(-log(u)), u drawn by lot for (lot, j) from the 4096 midpoints
/// (i + 0.5) / 4096: two logarithms for each score would cost more than the score.
void add_gumbel_noise(const NoiseLot& lot, std::span<float> values);

/// The i-th of the values that the noise can have, i from 0 to 4095, ascending.
float gumbel_quantile(std::uint32_t i);

}  // namespace larder
