// The root-mean-square norm written from the formula.
#pragma once

#include <cstddef>

namespace larder::reference {

/// As `larder::rmsnorm`, in double.
void rmsnorm(const float* x, const float* weight, float eps, std::size_t n, float* out);

}  // namespace larder::reference
