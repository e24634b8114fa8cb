// Tensors that GGUF holds in other portions than Hugging Face does: stacked experts, and the matrix
// behind a latent in its two halves.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "model/io/model_source.h"
#include "tensor/view.h"

namespace larder {

/// One tensor of the output, made of pieces of the input.
struct OutputTensor {
  std::string name;                // canonical, in the output
  std::string from;                // canonical, of the (first) input tensor
  std::vector<TensorView> pieces;  // one after the other
  bool transposed = false;         // each piece
  std::uint32_t n_dims = 0;
  std::array<std::uint64_t, 4> shape{};  // outermost first

  std::uint64_t n_elems() const noexcept;
  std::uint64_t n_cols() const noexcept { return shape[n_dims - 1]; }
  std::uint64_t bytes_in() const noexcept;
};

/// All tensors of the source as a GGUF file has them. Per-expert matrices become one tensor
/// [n_experts, rows, columns] at the place of the first; blk.N.attn_kv_b becomes attn_k_b
/// [n_heads, kv_rank, nope_dim], transposed, and attn_v_b [n_heads, v_dim, kv_rank], as llama.cpp
/// wants them for latent attention. REQUIRES: tensors that Weights::load accepted.
std::vector<OutputTensor> regroup_tensors(const ModelSource& source);

/// A piece the other way around, as floats in `memory`.
TensorView transpose_piece(const TensorView& piece, std::vector<float>& memory);

}  // namespace larder
