#include "model/experts.h"

#include <algorithm>

namespace larder {

Experts::Experts(const ModelConfig& config, const ForwardLimits& limits)
    : config_(&config),
      logits_(std::size_t{limits.max_rows} * config.experts.n_experts),
      choices_(std::size_t{limits.max_rows} * config.experts.n_used),
      begins_(config.experts.n_experts + std::size_t{1}),
      rows_(choices_.size()),
      weights_(choices_.size()),
      gathered_(std::size_t{limits.max_rows} * config.n_embd),
      done_(gathered_.size()) {}

std::size_t Experts::scratch_bytes(const ModelConfig& config,
                                   const ForwardLimits& limits) noexcept {
  const ExpertConfig& e = config.experts;
  const std::size_t per_row = e.n_experts * sizeof(float) +
                              e.n_used * (sizeof(ExpertChoice) + 2 * sizeof(float)) +
                              2 * std::size_t{config.n_embd} * sizeof(float);
  return limits.max_rows * per_row + (e.n_experts + std::size_t{1}) * sizeof(std::uint32_t);
}

void Experts::run(const Compute& compute, const ExpertStep& step) {
  const std::size_t n_embd = config_->n_embd;
  const ExpertWeights& w = step.weights;
  route(compute, step);
  group(step);
  if (w.shared_gate.n_out != 0) {
    feed_forward(compute, {w.shared_gate, w.shared_up, w.shared_down}, step, step.n_rows, step.out);
  } else {
    std::fill_n(step.out, step.n_rows * n_embd, 0.0F);
  }
  for (std::uint32_t e = 0; e < config_->experts.n_experts; ++e) {
    const std::uint32_t begin = begins_[e], n = begins_[e + 1] - begin;
    if (n == 0) continue;
    compute.pool.for_each(n, [&](std::size_t i, unsigned) {
      std::copy_n(step.x + rows_[begin + i] * n_embd, n_embd, gathered_.data() + i * n_embd);
    });
    step.input.set(gathered_.data(), n, n_embd);
    feed_forward(compute, {w.gate[e], w.up[e], w.down[e]}, step, n, done_.data());
    compute.pool.for_each(n, [&](std::size_t i, unsigned) {
      compute.simd.axpy(weights_[begin + i], done_.data() + i * n_embd,
                        step.out + rows_[begin + i] * n_embd, n_embd);
    });
  }
}

void Experts::route(const Compute& compute, const ExpertStep& step) {
  const ExpertConfig& e = config_->experts;
  const RoutingRule rule{e.n_groups, e.n_groups_used, e.weights_scale, e.normalise};
  linear(compute, step.weights.router, step.input, logits_.span(), e.n_experts);
  compute.pool.for_each(step.n_rows, [&](std::size_t row, unsigned) {
    choose_experts(rule, logits_.span().subspan(row * e.n_experts, e.n_experts),
                   choices_.span().subspan(row * e.n_used, e.n_used));
  });
}

/// Rows in order of experts, by counting.
void Experts::group(const ExpertStep& step) {
  const std::uint32_t n_used = config_->experts.n_used;
  const auto choices = choices_.span().first(std::size_t{step.n_rows} * n_used);
  std::fill(begins_.span().begin(), begins_.span().end(), 0U);
  for (const ExpertChoice& choice : choices) ++begins_[choice.expert + 1];
  for (std::size_t e = 1; e < begins_.size(); ++e) begins_[e] += begins_[e - 1];
  for (std::size_t i = 0; i < choices.size(); ++i) {
    const std::uint32_t place = begins_[choices[i].expert]++;
    rows_[place] = static_cast<std::uint32_t>(i / n_used);
    weights_[place] = choices[i].weight;
  }
  // Each beginning has moved to the next one's.
  for (std::size_t e = begins_.size() - 1; e > 0; --e) begins_[e] = begins_[e - 1];
  begins_[0] = 0;
}

/// out = down(silu(gate x) * up x) of the `n_rows` rows that `step.input` is set to.
void Experts::feed_forward(const Compute& compute, const Part& part, const ExpertStep& step,
                           std::uint32_t n_rows, float* out) const {
  const std::size_t n_ff = part.gate.n_out;
  linear(compute, part.gate, step.input, {step.gate, n_rows * n_ff}, n_ff);
  linear(compute, part.up, step.input, {step.up, n_rows * n_ff}, n_ff);
  compute.pool.for_each(n_rows, [&](std::size_t row, unsigned) {
    float* gate = step.gate + row * n_ff;
    compute.simd.silu_mul(gate, step.up + row * n_ff, gate, n_ff);
  });
  step.input.set(step.gate, n_rows, n_ff);
  linear(compute, part.down, step.input, {out, n_rows * std::size_t{config_->n_embd}},
         config_->n_embd);
}

}  // namespace larder
