#include "kernels/gumbel_noise.h"

#include <array>
#include <cmath>
#include <cstddef>

namespace larder {
namespace {

constexpr std::uint32_t kBits = 12;
using Quantiles = std::array<float, 1U << kBits>;

const Quantiles& quantiles() {
  static const Quantiles table = [] {
    Quantiles values;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double u = (static_cast<double>(i) + 0.5) / static_cast<double>(values.size());
      values[i] = static_cast<float>(-std::log(-std::log(u)));
    }
    return values;
  }();
  return table;
}

/// SplitMix64 (Steele et al. 2014).
std::uint64_t mix(std::uint64_t x) noexcept {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

}  // namespace

float gumbel_quantile(std::uint32_t i) { return quantiles()[i]; }

void add_gumbel_noise(const NoiseLot& lot, std::span<float> values) {
  const Quantiles& table = quantiles();
  const std::uint64_t of_query = mix(mix((std::uint64_t{lot.seed} << 32) + lot.position) +
                                     ((std::uint64_t{lot.layer} << 32) + lot.head));
  for (std::size_t j = 0; j < values.size(); ++j) {
    values[j] += table[mix(of_query + j) >> (64 - kBits)];
  }
}

}  // namespace larder
