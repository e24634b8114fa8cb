#include "policy/pool_scores.h"

#include <algorithm>
#include <cstddef>

#include "base/check.h"

namespace larder {

void pool_scores(std::uint32_t kernel, std::span<float> scratch, std::span<float> scores) {
  LARDER_CHECK(kernel % 2 == 1 && scratch.size() == scores.size());
  const std::size_t half = kernel / 2;
  std::copy(scores.begin(), scores.end(), scratch.begin());
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const std::size_t begin = i - std::min(i, half), end = std::min(i + half + 1, scores.size());
    float sum = 0;
    for (std::size_t j = begin; j < end; ++j) sum += scratch[j];
    scores[i] = sum / static_cast<float>(kernel);
  }
}

}  // namespace larder
