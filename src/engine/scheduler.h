// Who runs in the next step, with how many tokens, over which blocks.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "engine/sequence.h"
#include "kv/block_pool.h"
#include "kv/sequence_cache.h"

namespace larder {

struct PlannedRows {
  Sequence* sequence;
  std::uint32_t n_rows;  // room for them is reserved
  bool rereads = false;  // they are no rows of the text: Sequence::rereading
};

struct StepPlan {
  std::vector<PlannedRows> rows;
  std::vector<BlockCopy> copies;  // to be made before the step computes
};

struct SchedulerLimits {
  std::uint32_t n_sequences;  // that may run at once
  std::uint32_t n_batch;      // rows of one step
};

struct SchedulerHooks {
  /// Asked when blocks are short for a sequence; false when there is nothing left to give (kept
  /// caches of finished requests go before anybody is preempted).
  std::function<bool(const Sequence&)> make_room;
  /// Asked when even a lone sequence does not fit; false when nothing is pinned.
  std::function<bool()> drop_pins;
  /// Gives an empty sequence the rows it may share, just before it is admitted: while it waits it
  /// holds no blocks, so that a lone running sequence always finds its own.
  std::function<void(Sequence&)> share_rows;
  /// Gives a running prompt the rows that others have computed since.
  std::function<void(Sequence&)> share_more;
  /// True when what the sequence needs next is computed in this very step by another.
  std::function<bool(const Sequence&, const StepPlan&)> is_underway;
  /// What becomes of the blocks of a sequence that is preempted: when it returns, the sequence
  /// holds none. The engine lets go of them, so that the rows are found in the prefix tree or
  /// recomputed. This is the place for spilling: rows copied to a lower tier here come back in
  /// `share_rows`, which is asked before the sequence is admitted anew.
  std::function<void(Sequence&)> give_blocks_up;
};

/// By rank (Sequence::rank), then first come, first served; a preempted sequence goes before its
/// equals. Decoding sequences go first in each step, one row each; prompts share what is left of
/// the step in chunks. When blocks run out, the sequence of the highest rank that arrived last
/// gives all of its own back and starts over later (recompute, as vLLM does): late, never lost.
/// Decides over ids and counts; touches no tensor. Not thread-safe.
class Scheduler {
 public:
  Scheduler(const SchedulerLimits& limits, BlockPool& pool, SchedulerHooks hooks);

  void add(std::unique_ptr<Sequence> sequence);  // behind all of its rank that wait
  /// A further sample of a request that runs already; takes the slot that was held for it.
  Sequence* add_sample(std::unique_ptr<Sequence> sequence);
  /// Reserves blocks for what it plans. Valid until the next call. Empty when nothing waits or
  /// runs.
  const StepPlan& plan();
  /// All that wait and run, in order.
  void for_each(const std::function<void(const Sequence&, bool runs)>& visit) const;
  /// Takes out what has finished, in order of arrival.
  std::vector<std::unique_ptr<Sequence>> take_finished();
  /// Drops the sequences of a request, wherever they stand. False when there are none.
  bool drop(RequestId id);

  bool idle() const noexcept { return waiting_.empty() && running_.empty(); }
  std::uint32_t n_running() const noexcept { return static_cast<std::uint32_t>(running_.size()); }
  std::uint32_t n_running_requests() const noexcept;  // whose sequences the running ones are
  std::uint32_t n_waiting() const noexcept { return static_cast<std::uint32_t>(waiting_.size()); }
  std::uint64_t n_preempted() const noexcept { return n_preempted_; }

 private:
  std::uint32_t n_chunk(const Sequence& sequence) const;
  bool reserve(Sequence& sequence, std::uint32_t n_rows);
  bool take(Sequence& sequence, std::uint32_t n_rows);
  Sequence* preempt_one();
  std::deque<std::unique_ptr<Sequence>>::iterator next_in_turn();
  bool may_admit(Sequence& sequence);
  bool has_room_for(const Sequence& sequence);
  std::uint32_t n_free_slots() const;

  const SchedulerLimits limits_;
  BlockPool& pool_;
  const SchedulerHooks hooks_;
  std::deque<std::unique_ptr<Sequence>> waiting_;
  std::vector<std::unique_ptr<Sequence>> running_;  // in order of arrival
  StepPlan plan_;
  std::vector<std::uint32_t> needed_, total_;  // [n_classes] counts of an admission
  std::uint32_t rows_left_ = 0;
  std::uint64_t n_preempted_ = 0;
};

}  // namespace larder
