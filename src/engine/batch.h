// The one place where ids become addresses: a step's plan turned into what the forward pass reads.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/reading_plan.h"
#include "engine/scheduler.h"
#include "model/forward.h"

namespace larder {

/// Which logits a step needs and for whom.
struct LogitsWanted {
  std::uint32_t row;  // of the batch
  Sequence* sequence;
  TokenId target;  // prompt token to score, or kNoToken: draw the next token
};

/// Reuses its memory from step to step. Not thread-safe.
class BatchBuilder {
 public:
  /// Borrows the configuration. `reading`: KvPlan.
  BatchBuilder(const ModelConfig& config, std::uint32_t max_sequences, std::uint32_t max_rows,
               std::optional<ReadingPlan> reading);

  /// Valid until the next call, and while the plan's sequences keep their blocks.
  const ForwardBatch& build(const StepPlan& plan);
  /// Of the batch built last: prompt tokens to score (where asked for) and the rows that draw.
  const std::vector<LogitsWanted>& logits_wanted() const noexcept { return wanted_; }

 private:
  void add(const PlannedRows& planned);
  void add_heads(const SequenceCache& cache, bool heads_apart);
  void observe(const PlannedRows& planned);

  const ModelConfig& config_;
  const std::optional<ReadingPlan> reading_;
  std::vector<TokenId> tokens_;
  std::vector<SequenceRows> sequences_;
  std::vector<KvRows> heads_;          // [n_sequences, n_layers, n_kv_heads]
  std::vector<std::uint32_t> stored_;  // [n_sequences, n_layers]
  std::vector<float*> sums_;           // [n_sequences, n_layers]
  std::vector<ObservedSequence> observed_;
  std::vector<LogitsWanted> wanted_;
  ForwardBatch batch_;
};

}  // namespace larder
