// The small matrices between latent and heads, the other way around.
#pragma once

#include <span>
#include <vector>

#include "kernels/linear.h"
#include "tensor/buffer.h"

namespace larder {

struct TransposedHeads {
  Buffer<std::byte> bytes;          // owns what `heads` borrow
  std::vector<LinearWeight> heads;  // each [n_in, n_out] of the given one
};

/// Transposes each of `heads`, all of the same shape and type. Floats keep their type and bits;
/// quantised weights, whose blocks lie along the rows, become f16, or f32 where f16 cannot hold
/// one.
TransposedHeads transpose_heads(std::span<const LinearWeight> heads);

}  // namespace larder
