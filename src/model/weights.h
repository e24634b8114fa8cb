// The weights of a model, by their place in the forward pass.
#pragma once

#include <functional>
#include <vector>

#include "kernels/linear.h"
#include "larder/result.h"
#include "model/io/model_source.h"
#include "tensor/buffer.h"

namespace larder {

struct LayerWeights {
  const float* attn_norm = nullptr;  // [n_embd]
  LinearWeight q, k, v, o;
  const float* q_norm = nullptr;  // [head_dim]; absent without qk_norm
  const float* k_norm = nullptr;
  const float* post_attn_norm = nullptr;  // [n_embd]; absent without post_norms
  const float* ffn_norm = nullptr;
  LinearWeight gate, up, down;
  const float* post_ffn_norm = nullptr;
};

/// Matrices are used where they lie in the mapped file, in its format; norms and biases are small
/// and become floats here. Borrows the source, which must outlive it. Immutable; thread-safe.
class Weights {
 public:
  /// Checks every tensor's presence, shape and type. Errors: not_found, corrupt, unsupported.
  /// `progress` (may be empty) hears of each layer, 0..1.
  static Result<Weights> load(const ModelSource& source,
                              const std::function<void(float)>& progress = {});

  const ModelConfig& config() const noexcept { return *config_; }
  const TensorView& token_embedding() const noexcept { return token_embedding_; }
  const LayerWeights& layer(std::size_t i) const noexcept { return layers_[i]; }
  const float* output_norm() const noexcept { return output_norm_; }
  const LinearWeight& output() const noexcept { return output_; }

 private:
  friend class WeightsLoader;
  Weights() = default;
  const ModelConfig* config_ = nullptr;
  TensorView token_embedding_;  // [n_vocab, n_embd]
  std::vector<LayerWeights> layers_;
  const float* output_norm_ = nullptr;
  LinearWeight output_;                // the token embedding when the model ties them
  std::vector<Buffer<float>> floats_;  // norms and biases
};

}  // namespace larder
