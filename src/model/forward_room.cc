// Memory of a forward pass that depends on what sequences do with their rows.
#include <algorithm>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "model/forward.h"

namespace larder {

void ForwardPass::make_room(const ForwardLimits& limits) {
  LARDER_CHECK(limits.n_reread >= limits_.n_reread && limits.n_capped >= limits_.n_capped);
  const bool is_first = limits_.max_rows == 0;
  const bool sees_more = is_first || limits.n_reread != limits_.n_reread;
  const bool sums_more = limits.sums_attention && (!limits_.sums_attention || sees_more);
  const bool meets_more =
      limits.has_sinks && (!limits_.has_sinks || limits.n_capped != limits_.n_capped);
  const unsigned n_threads = compute_.pool.n_threads();
  const std::uint32_t max_seen = limits.max_context + limits.n_reread;
  const bool seals = std::any_of(layouts_.begin(), layouts_.end(),
                                 [](const KvLayout& layout) { return layout.open_bytes != 0; });
  if (sees_more && config_.has_latent()) {
    latent_ = LatentAttention(config_, block_tokens_, limits, n_threads);
  } else if (sees_more) {
    attention_scratch_ = AttentionScratch(attention_shape(0), n_threads, limits.max_rows, max_seen,
                                          limits.max_sequences, seals);
  }
  if (sums_more) column_scratch_ = ColumnScratch(n_threads, max_seen, config_.head_dim, seals);
  if (meets_more) make_room_for_sinks(limits);
  limits_ = limits;
}

void ForwardPass::make_room_for_sinks(const ForwardLimits& limits) {
  sink_q_ = Buffer<float>(q_.size() * std::max(limits.n_capped, 1U));
  turn_back_ = ropes_[0].table;
  turn_back_.amplitude = 1.0F;  // queries have it already
  const std::size_t n_angles = turn_back_.inv_freq.size();
  turn_cos_ = Buffer<float>(limits.max_rows * n_angles);
  turn_sin_ = Buffer<float>(turn_cos_.size());
  turns_.resize(std::max(limits.max_rows, limits.n_capped));
  Buffer<float> cos(limits.n_capped * n_angles), sin(limits.n_capped * n_angles);
  std::iota(turns_.begin(), turns_.end(), 0U);
  rope_angles(turn_back_, std::span(turns_).first(limits.n_capped), cos.span(), sin.span());
  sink_cos_ = std::move(cos);
  sink_sin_ = std::move(sin);
}

}  // namespace larder
