#include "engine/batch.h"

#include "model/latent_forms.h"

namespace larder {

BatchBuilder::BatchBuilder(const ModelConfig& config, std::uint32_t max_sequences,
                           std::uint32_t max_rows)
    : config_(config) {
  tokens_.reserve(max_rows);
  sequences_.reserve(max_sequences);
  heads_.reserve(std::size_t{max_sequences} * config.n_layers * config.n_kv_heads);
  wanted_.reserve(max_rows);
}

const ForwardBatch& BatchBuilder::build(const StepPlan& plan) {
  tokens_.clear();
  sequences_.clear();
  heads_.clear();
  wanted_.clear();
  for (const PlannedRows& planned : plan.rows) add(planned);
  batch_ = {tokens_, sequences_};
  return batch_;
}

void BatchBuilder::add(const PlannedRows& planned) {
  const Sequence& s = *planned.sequence;
  const std::uint32_t n_past = s.cache.n_rows();
  const auto first_row = static_cast<std::uint32_t>(tokens_.size());
  const std::size_t first_head = heads_.size();
  for (std::uint32_t layer = 0; layer < config_.n_layers; ++layer) {
    for (std::uint32_t head = 0; head < config_.n_kv_heads; ++head) {
      const std::uint32_t owner = config_.owner(layer);
      const BlockTable& table = s.cache.table(owner, head);
      const BlockId open =
          s.cache.has_open_block(owner) ? s.cache.open_block(owner, head) : BlockId{};
      heads_.push_back({table.blocks(), table.first_block(), open});
    }
  }
  const auto begin = s.tokens.begin() + n_past;
  tokens_.insert(tokens_.end(), begin, begin + planned.n_rows);
  const RequestState& request = *s.request;
  const auto n_prompt = static_cast<std::uint32_t>(request.request.prompt.size());
  const std::uint32_t n_plain = plain_prefix(config_, n_prompt);
  sequences_.push_back({first_row, planned.n_rows, n_past, std::span(heads_).subspan(first_head),
                        n_plain > n_past ? n_plain - n_past : 0});

  // The row at position p predicts token p + 1.
  const std::uint32_t end = n_past + planned.n_rows;
  if (request.request.prompt_logprobs && s.sample == 0) {
    for (std::uint32_t p = n_past; p < end && p + 1 < n_prompt; ++p) {
      if (p + 1 < request.n_prompt_scored) continue;
      wanted_.push_back({first_row + p - n_past, planned.sequence, s.tokens[p + 1]});
    }
  }
  if (end == s.tokens.size() && request.request.pooling == Pooling::none) {
    wanted_.push_back({first_row + planned.n_rows - 1, planned.sequence, kNoToken});
  }
}

}  // namespace larder
