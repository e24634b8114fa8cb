// The attention of one layer as matrices, whatever the file's types and fusions: what conversions
// of the attention work on.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "larder/result.h"
#include "model/io/model_source.h"
#include "model/surgery/matrix.h"

namespace larder {

/// Projections with their biases as a last column (zero without): y = W [x; 1].
struct AttentionLayer {
  Matrix q;  // [n_heads * head_dim, n_embd + 1]
  Matrix k;  // [n_kv_heads * head_dim, n_embd + 1]
  Matrix v;  // [n_kv_heads * head_dim, n_embd + 1]
  Matrix o;  // [n_embd, n_heads * head_dim]; its own bias is no part of it
  bool q_bias = false, k_bias = false, v_bias = false;
};

/// REQUIRES: Weights::load accepted the source. Errors: corrupt for a value that is not finite.
Result<AttentionLayer> read_attention(const ModelSource& source, std::uint32_t layer);

/// The two channels of a head that rotate together. Channels beyond the rotated ones are paired
/// with their neighbours; nothing rotates those.
std::pair<std::uint32_t, std::uint32_t> rope_pair(const ModelConfig& config, std::uint32_t pair);

/// Second moment of a layer's attention inputs, with a 1 behind each: E[[x; 1] [x; 1]^T].
struct InputMoment {
  std::vector<double> diagonal;  // [n_embd + 1] where nothing else is known
  Matrix full;                   // [n_embd + 1, n_embd + 1]; empty: the diagonal counts
};

/// What the norm before the attention lets through if its input is isotropic: the squared weights
/// of that norm on the diagonal. `source` as for read_attention.
InputMoment assumed_moment(const ModelSource& source, std::uint32_t layer);
/// The same for all layers. Without `measured` it is assumed.
using InputMoments = std::vector<InputMoment>;

/// a E[x x^T] b^T. REQUIRES: columns as the moment has.
Matrix moment_product(const Matrix& a, const InputMoment& moment, const Matrix& b);

}  // namespace larder
