#include "wilson.h"

#include <algorithm>
#include <cmath>

namespace larder {

Interval wilson_interval(std::uint64_t n_right, std::uint64_t n, double z) {
  if (n == 0) return {};
  const auto draws = static_cast<double>(n);
  const double share = static_cast<double>(n_right) / draws;
  const double z2 = z * z / draws;
  const double centre = share + z2 / 2;
  const double radius = z * std::sqrt(share * (1 - share) / draws + z2 / (4 * draws));
  // Exact at the ends, where rounding would leave 1e-17.
  const double low = n_right == 0 ? 0 : (centre - radius) / (1 + z2);
  const double high = n_right == n ? 1 : (centre + radius) / (1 + z2);
  return {std::clamp(low, 0.0, 1.0), std::clamp(high, 0.0, 1.0)};
}

}  // namespace larder
