#include "engine/batch.h"

#include <algorithm>

#include "engine/row_forms.h"

namespace larder {
namespace {

constexpr std::uint32_t kUncountedQueries = 4;  // as expected attention's authors do

}  // namespace

BatchBuilder::BatchBuilder(const ModelConfig& config, std::uint32_t max_sequences,
                           std::uint32_t max_rows, std::optional<ReadingPlan> reading)
    : config_(config), reading_(reading) {
  tokens_.reserve(max_rows);
  sequences_.reserve(max_sequences);
  heads_.reserve(std::size_t{max_sequences} * config.n_layers * config.n_kv_heads);
  stored_.reserve(std::size_t{max_sequences} * config.n_layers);
  sums_.reserve(std::size_t{max_sequences} * config.n_layers);
  observed_.reserve(max_sequences);
  wanted_.reserve(max_rows);
}

const ForwardBatch& BatchBuilder::build(const StepPlan& plan) {
  tokens_.clear();
  sequences_.clear();
  heads_.clear();
  stored_.clear();
  sums_.clear();
  observed_.clear();
  wanted_.clear();
  for (const PlannedRows& planned : plan.rows) {
    observe(planned);
    add(planned);
  }
  batch_ = {tokens_, sequences_, observed_};
  return batch_;
}

/// The last rows before rows are dropped, or all of them, if a policy asks for their attention.
void BatchBuilder::observe(const PlannedRows& planned) {
  Sequence& s = *planned.sequence;
  const std::uint32_t n_past = s.cache.n_rows(), end = n_past + planned.n_rows;
  std::uint32_t first = planned.rereads ? n_past : s.evictions.next_observed(n_past);
  // The first queries are like no others.
  if (!s.statistics.of_rows()) first = std::max(first, kUncountedQueries);
  if (s.statistics.empty() || first >= end) return;
  const bool is_apart = s.policy().rows.shape.heads_apart;
  const std::size_t first_layer = sums_.size();
  for (std::uint32_t layer = 0; layer < config_.n_layers; ++layer) {
    const std::uint32_t owner = config_.owner(layer);
    sums_.push_back(s.statistics.layer(is_apart ? owner * config_.n_kv_heads : owner));
  }
  const std::span<float* const> of_layers = std::span(sums_).subspan(first_layer);
  ObservedSequence& observed = observed_.emplace_back();
  observed.sequence = static_cast<std::uint32_t>(sequences_.size());
  observed.first = first - n_past;
  observed.n_rows = end - first;
  observed.stride = s.statistics.stride();
  observed.far = s.statistics.far();
  observed.place = s.evictions.place_of(first);
  observed.credit = s.policy().credit;
  (s.statistics.of_rows() ? observed.sums : observed.queries) = of_layers;
}

/// Where the rows of each layer and KV head stand.
void BatchBuilder::add_heads(const SequenceCache& cache, bool heads_apart) {
  const std::uint32_t n_heads = config_.n_kv_heads, n_parts = heads_apart ? n_heads : 1;
  for (std::uint32_t layer = 0; layer < config_.n_layers; ++layer) {
    const std::uint32_t first = config_.owner(layer) * n_parts;
    std::uint32_t n_most = 0;
    for (std::uint32_t part = first; part < first + n_parts; ++part) {
      n_most = std::max(n_most, cache.n_stored(part));
    }
    stored_.push_back(n_most);
    for (std::uint32_t head = 0; head < n_heads; ++head) {
      const std::uint32_t of = heads_apart ? first + head : first;
      const std::uint32_t index = heads_apart ? 0 : head;
      const BlockTable& table = cache.table(of, index);
      const BlockId open = cache.has_open_block(of) ? cache.open_block(of, index) : BlockId{};
      heads_.push_back({table.blocks(), table.first_block(), open, n_most - cache.n_stored(of)});
    }
  }
}

void BatchBuilder::add(const PlannedRows& planned) {
  const Sequence& s = *planned.sequence;
  const std::uint32_t n_past = s.cache.n_rows();
  const auto first_row = static_cast<std::uint32_t>(tokens_.size());
  const std::size_t first_head = heads_.size(), first_layer = stored_.size();
  add_heads(s.cache, s.policy().rows.shape.heads_apart);
  tokens_.insert(tokens_.end(), s.next_tokens(), s.next_tokens() + planned.n_rows);
  const RequestState& request = *s.request;
  const auto n_prompt = static_cast<std::uint32_t>(request.request.prompt.size());
  const std::uint32_t n_plain = plain_rows(config_, reading_, request.request);
  sequences_.push_back({first_row, planned.n_rows, n_past, std::span(heads_).subspan(first_head),
                        std::span(stored_).subspan(first_layer), s.policy().sinks.n,
                        s.policy().sinks.has_caps ? s.evictions.n_keep + s.evictions.every - 1 : 0,
                        n_plain > n_past ? n_plain - n_past : 0});

  if (planned.rereads) return;
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
