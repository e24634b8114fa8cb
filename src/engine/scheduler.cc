#include "engine/scheduler.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/check.h"

namespace larder {

Scheduler::Scheduler(const SchedulerLimits& limits, BlockPool& pool, SchedulerHooks hooks)
    : limits_(limits),
      pool_(pool),
      hooks_(std::move(hooks)),
      needed_(pool.n_classes()),
      total_(pool.n_classes()) {
  running_.reserve(limits.n_sequences);
  plan_.rows.reserve(limits.n_sequences);
}

void Scheduler::add(std::unique_ptr<Sequence> sequence) { waiting_.push_back(std::move(sequence)); }

Sequence* Scheduler::add_sample(std::unique_ptr<Sequence> sequence) {
  // Beside its siblings, so that `running_` stays in order of arrival.
  auto after = std::find_if(running_.rbegin(), running_.rend(),
                            [&](const auto& other) { return other->request == sequence->request; });
  return running_.insert(after.base(), std::move(sequence))->get();
}

const StepPlan& Scheduler::plan() {
  plan_.rows.clear();
  plan_.copies.clear();
  rows_left_ = limits_.n_batch;
  // `take` may preempt sequences at the end of `running_`, so the bound is read anew each time.
  for (std::size_t i = 0; i < running_.size() && rows_left_ > 0; ++i) {
    if (running_[i]->n_missing() == 1) take(*running_[i], 1);
  }
  for (std::size_t i = 0; i < running_.size() && rows_left_ > 0; ++i) {
    if (running_[i]->n_missing() == 1) continue;
    hooks_.share_more(*running_[i]);
    if (hooks_.is_underway(*running_[i], plan_)) continue;
    take(*running_[i], n_chunk(*running_[i]));
  }
  while (rows_left_ > 0) {
    const auto next = next_in_turn();
    if (next == waiting_.end() || !may_admit(**next)) break;
    std::for_each(waiting_.begin(), next, [](const auto& older) { ++older->n_overtaken; });
    running_.push_back(std::move(*next));
    waiting_.erase(next);
    Sequence& admitted = *running_.back();
    if (!take(admitted, n_chunk(admitted))) break;
  }
  return plan_;
}

std::uint32_t Scheduler::n_chunk(const Sequence& sequence) const {
  return std::min({sequence.n_missing(), rows_left_, sequence.n_to_pause()});
}

/// The first of the best. Preempted ones stand in front.
std::deque<std::unique_ptr<Sequence>>::iterator Scheduler::next_in_turn() {
  return std::min_element(waiting_.begin(), waiting_.end(),
                          [](const auto& a, const auto& b) { return a->rank() < b->rank(); });
}

bool Scheduler::reserve(Sequence& sequence, std::uint32_t n_rows) {
  const std::uint32_t n_kept = n_rows == sequence.n_to_eviction() ? sequence.evictions.n_most : 0;
  do {
    if (sequence.cache.reserve(n_rows, plan_.copies, n_kept)) return true;
  } while (hooks_.make_room(sequence));
  return false;
}

/// Plans `n_rows` of a running sequence; preempts from the end until its blocks are found. False
/// when the sequence itself had to go.
bool Scheduler::take(Sequence& sequence, std::uint32_t n_rows) {
  while (!reserve(sequence, n_rows)) {
    if (running_.size() == 1 && hooks_.drop_pins()) continue;
    if (running_.size() == 1) {
      // The budget holds one sequence of the full context (plan_kv), so a lone one that begins
      // always fits. One that ran beside others may have its blocks strewn over slabs that other
      // block sizes want; it begins again, and alone. It comes by the same points then, so rows
      // are dropped as before; and it needs no spare blocks, since all that it shared blocks with
      // has been let go of.
      LARDER_CHECK(sequence.cache.n_rows() > 0);
      sequence.runs_alone = true;
    }
    if (preempt_one() == &sequence) return false;
  }
  plan_.rows.push_back({&sequence, n_rows, sequence.rereading.has_value()});
  rows_left_ -= n_rows;
  return true;
}

Sequence* Scheduler::preempt_one() {
  // From the end: the last of the highest rank.
  const auto last =
      std::max_element(running_.rbegin(), running_.rend(),
                       [](const auto& a, const auto& b) { return a->rank() < b->rank(); });
  auto victim = std::move(*last);
  running_.erase(std::next(last).base());
  std::erase_if(plan_.rows, [&](const PlannedRows& p) {
    if (p.sequence != victim.get()) return false;
    rows_left_ += p.n_rows;
    return true;
  });
  hooks_.give_blocks_up(*victim);
  LARDER_CHECK(victim->cache.n_rows() == 0);
  victim->preempted = true;
  victim->n_shared = 0;
  // Copies into its blocks would now write to free memory.
  std::erase_if(plan_.copies, [&](const BlockCopy& c) { return pool_.ref_count(c.to) == 0; });
  Sequence* const preempted = victim.get();
  waiting_.push_front(std::move(victim));
  ++n_preempted_;
  return preempted;
}

bool Scheduler::may_admit(Sequence& sequence) {
  if (1 + sequence.n_pending_samples > n_free_slots()) return false;
  if (!running_.empty() && (sequence.runs_alone || running_.front()->runs_alone)) return false;
  if (sequence.cache.n_rows() == 0) hooks_.share_rows(sequence);
  if (!hooks_.is_underway(sequence, plan_) && has_room_for(sequence)) return true;
  sequence.clear_cache();
  return false;
}

/// Blocks for all that the sequence still misses, beside one more for each that runs: admitting
/// less would only preempt it again soon. An idle engine admits always.
bool Scheduler::has_room_for(const Sequence& sequence) {
  if (running_.empty()) return true;
  do {
    sequence.cache.count_in_steps(sequence.n_to_store(), limits_.n_batch, total_);
    for (const auto& running : running_) {
      running->cache.count_needed(1, needed_);
      for (std::size_t c = 0; c < total_.size(); ++c) total_[c] += needed_[c];
    }
    if (pool_.can_acquire(total_)) return true;
  } while (hooks_.make_room(sequence));
  return false;
}

std::uint32_t Scheduler::n_free_slots() const {
  std::uint32_t used = 0;
  for (const auto& running : running_) used += 1 + running->n_pending_samples;
  return limits_.n_sequences > used ? limits_.n_sequences - used : 0;
}

std::uint32_t Scheduler::n_running_requests() const noexcept {
  std::uint32_t n = 0;
  for (auto it = running_.begin(); it != running_.end(); ++it) {
    // Siblings stand beside each other but for those that were preempted in between.
    const bool is_known = std::any_of(running_.begin(), it, [it](const auto& before) {
      return before->request == (*it)->request;
    });
    n += is_known ? 0 : 1;
  }
  return n;
}

void Scheduler::for_each(const std::function<void(const Sequence&, bool runs)>& visit) const {
  for (const auto& sequence : running_) visit(*sequence, true);
  for (const auto& sequence : waiting_) visit(*sequence, false);
}

std::vector<std::unique_ptr<Sequence>> Scheduler::take_finished() {
  std::vector<std::unique_ptr<Sequence>> finished;
  for (auto& sequence : running_) {
    if (sequence->finish != FinishReason::none) finished.push_back(std::move(sequence));
  }
  std::erase(running_, nullptr);
  return finished;
}

bool Scheduler::drop(RequestId id) {
  const auto is_of_request = [id](const auto& s) { return s->request->id == id; };
  return std::erase_if(waiting_, is_of_request) + std::erase_if(running_, is_of_request) > 0;
}

}  // namespace larder
