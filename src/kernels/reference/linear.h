// Linear layers written from the formula: what the fast ones are tested against.
#pragma once

#include <cstddef>

#include "kernels/linear.h"

namespace larder::reference {

/// As `larder::linear` on x [n_x, w.n_in], in double over decoded weights; allocates one row.
void linear(const LinearWeight& w, const float* x, std::size_t n_x, float* out, std::size_t ld_out);

}  // namespace larder::reference
