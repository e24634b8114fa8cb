// The weights of a model, by their place in the forward pass.
#pragma once

#include <functional>
#include <vector>

#include "kernels/linear.h"
#include "larder/result.h"
#include "model/io/model_source.h"
#include "tensor/buffer.h"
#include "tensor/huge_arena.h"

namespace larder {

/// Multi-head latent attention. The three ways through the latent are per head, so that a head can
/// go through them alone; k_absorb is k_up transposed, one of the two is a copy.
struct LatentWeights {
  LinearWeight q_a;  // [q_rank, n_embd]; `q` of the layer reads what it gives, if there
  const float* q_a_norm = nullptr;     // [q_rank]
  LinearWeight kv_a;                   // [kv_rank + rope_dim, n_embd]
  const float* kv_a_norm = nullptr;    // [kv_rank]
  std::vector<LinearWeight> k_up;      // [n_heads] of [nope_dim, kv_rank]: a key from the latent
  std::vector<LinearWeight> v_up;      // [n_heads] of [v_dim, kv_rank]: a value from the latent
  std::vector<LinearWeight> k_absorb;  // [n_heads] of [kv_rank, nope_dim]: a query into the latent
};

struct ExpertWeights {
  LinearWeight router;                               // [n_experts, n_embd]
  std::vector<LinearWeight> gate, up;                // [n_experts] of [n_ff, n_embd]
  std::vector<LinearWeight> down;                    // [n_experts] of [n_embd, n_ff]
  LinearWeight shared_gate, shared_up, shared_down;  // no rows without shared experts
};

struct LayerWeights {
  const float* attn_norm = nullptr;  // [n_embd]
  LinearWeight q, k, v, o;  // no k and v in layers that read those of another, or with a latent
  LatentWeights latent;
  const float* q_norm = nullptr;  // [head_dim]; absent without qk_norm
  const float* k_norm = nullptr;
  const float* post_attn_norm = nullptr;  // [n_embd]; absent without post_norms
  const float* ffn_norm = nullptr;
  LinearWeight gate, up, down;  // without rows where there are experts
  ExpertWeights experts;
  const float* post_ffn_norm = nullptr;
};

struct LoadOptions {
  /// Threads that rearrange the matrices of packed types (tensor/packed.h) into memory of our own,
  /// the only copy: the file's pages are let go. Absent: all are used as they lie in the file.
  ThreadPool* pool = nullptr;
  /// Leaves q8_0 and q4_0 to `pack_some`: packed or not, their results have the same bits.
  bool defer = false;
  std::function<void(float)> progress;  // hears of each layer, 0..1; may be empty
};

/// Matrices are packed for streaming or used where they lie in the mapped file, in its format;
/// norms and biases are small and become floats here. Latent attention keeps a transposed copy of
/// its small key matrix, and those per head as in the file. Borrows the source, which must outlive
/// it. Thread-safe to read.
class Weights {
 public:
  /// Checks every tensor's presence, shape and type. Errors: not_found, corrupt, unsupported;
  /// unavailable (no address space).
  static Result<Weights> load(const ModelSource& source, const LoadOptions& options = {});

  const ModelConfig& config() const noexcept { return *config_; }
  /// Packs the next matrices that `load` deferred, one at least and about `n_bytes`; false when
  /// none are left. Not while anybody reads the weights.
  bool pack_some(ThreadPool& pool, std::size_t n_bytes);

  /// The embedding of one token, out: [n_embd]. REQUIRES: token < n_vocab.
  void embed(std::size_t token, float* out) const;
  const LayerWeights& layer(std::size_t i) const noexcept { return layers_[i]; }
  const float* output_norm() const noexcept { return output_norm_; }
  const LinearWeight& output() const noexcept { return output_; }

 private:
  friend class WeightsLoader;
  Weights() = default;
  void pack(ThreadPool& pool, LinearWeight& w);

  const ModelSource* source_ = nullptr;
  const ModelConfig* config_ = nullptr;
  TensorView token_embedding_;  // [n_vocab, n_embd]
  bool tied_ = false;           // `output_` is the token embedding
  std::vector<LayerWeights> layers_;
  const float* output_norm_ = nullptr;
  LinearWeight output_;
  std::vector<Buffer<float>> floats_;          // norms and biases
  std::vector<Buffer<std::byte>> transposed_;  // of latent attention, see transpose_heads
  HugeArena panels_;                           // packed matrices
  std::size_t n_packed_ = 0;  // layers without deferred matrices; one more when the output is too
};

}  // namespace larder
