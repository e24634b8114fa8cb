#include "kernels/reference/rope.h"

#include <cmath>

namespace larder::reference {

void rope(const RopeTable& table, std::uint32_t position, float* x) {
  const std::size_t n_half = table.inv_freq.size();
  for (std::size_t i = 0; i < n_half; ++i) {
    const long double angle = static_cast<long double>(position) * table.inv_freq[i];
    const long double c = std::cos(angle) * table.amplitude, s = std::sin(angle) * table.amplitude;
    float& first = x[table.adjacent ? 2 * i : i];
    float& second = x[table.adjacent ? 2 * i + 1 : i + n_half];
    const long double a = first, b = second;
    first = static_cast<float>(a * c - b * s);
    second = static_cast<float>(a * s + b * c);
  }
}

}  // namespace larder::reference
