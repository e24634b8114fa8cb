// Rotary position embedding written from the formula.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/rope.h"

namespace larder::reference {

/// Rotates in place one head x [head_dim] of a token at `position`, in long double.
void rope(const RopeTable& table, std::uint32_t position, float* x);

}  // namespace larder::reference
