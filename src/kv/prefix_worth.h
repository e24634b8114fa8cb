// What a cached stripe is worth.
#pragma once

#include <cstdint>

namespace larder {

struct StripeFacts {
  std::uint32_t first_row = 0;  // of the stripe in its text
  std::uint64_t n_uses = 0;     // by sequences that shared it
};

/// Greedy-Dual-Size-Frequency (Cherkasova 1998): worth grows with use and with what recomputing
/// costs, and `age` (the worth of what was evicted last) lets those that were not used for long
/// fall behind. All stripes take the same bytes. Recomputing a row costs its matrices, and
/// attention over the rows before it, which takes as long again after about 4096 rows. Pure.
inline double stripe_worth(const StripeFacts& facts, double age) noexcept {
  const double cost = 1.0 + static_cast<double>(facts.first_row) / 4096.0;
  return age + static_cast<double>(1 + facts.n_uses) * cost;
}

}  // namespace larder
