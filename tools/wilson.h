// How far a share of right answers can be trusted.
#pragma once

#include <cstdint>

namespace larder {

struct Interval {
  double low = 0, high = 1;
};

/// Wilson's score interval of a probability of which `n_right` of `n` draws came true; (0, 1) for
/// no draws. `z`: normal quantile, 1.96 for 95 %. E. B. Wilson, J. Am. Stat. Assoc. 22 (1927).
/// REQUIRES: n_right <= n.
Interval wilson_interval(std::uint64_t n_right, std::uint64_t n, double z = 1.959964);

}  // namespace larder
