// The feed-forward part of a layer with a mixture of experts.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/compute.h"
#include "kernels/linear.h"
#include "kernels/routing.h"
#include "model/forward_batch.h"
#include "model/weights.h"
#include "tensor/buffer.h"

namespace larder {

struct ExpertStep {
  const ExpertWeights& weights;
  std::uint32_t n_rows;
  const float* x;      // [n_rows, n_embd], normed
  LinearInput& input;  // set to them; overwritten
  float *gate, *up;    // [n_rows, max_ff], overwritten
  float* out;          // [n_rows, n_embd], the result
};

/// The rows of a batch are grouped by expert, so that each expert's weights are read once. A row's
/// sum goes over the shared experts, then its own in order of their index: it does not depend on
/// the rows beside it. Allocates at construction only.
class Experts {
 public:
  Experts() = default;
  Experts(const ModelConfig& config, const ForwardLimits& limits);

  void run(const Compute& compute, const ExpertStep& step);

  static std::size_t scratch_bytes(const ModelConfig& config, const ForwardLimits& limits) noexcept;

 private:
  struct Part {  // a gated feed-forward layer
    const LinearWeight &gate, &up, &down;
  };
  void route(const Compute& compute, const ExpertStep& step);
  void group(const ExpertStep& step);
  void feed_forward(const Compute& compute, const Part& part, const ExpertStep& step,
                    std::uint32_t n_rows, float* out) const;

  const ModelConfig* config_ = nullptr;
  Buffer<float> logits_;           // [max_rows, n_experts]
  Buffer<ExpertChoice> choices_;   // [max_rows, n_used]
  Buffer<std::uint32_t> begins_;   // [n_experts + 1] where an expert's rows begin
  Buffer<std::uint32_t> rows_;     // [max_rows * n_used] rows in order of experts
  Buffer<float> weights_;          // [max_rows * n_used] beside them
  Buffer<float> gathered_, done_;  // [max_rows, n_embd] of one expert
};

}  // namespace larder
