#include "server/engine_loop.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "base/fail.h"

namespace larder {

EngineLoop::EngineLoop(Engine& engine, const LoopLimits& limits, LoopObserver* observer)
    : engine_(engine),
      limits_(limits),
      observer_(observer),
      n_slots_(engine.options().n_sequences) {
  stats_.engine = engine.stats();
}

EngineLoop::~EngineLoop() { stop(); }

void EngineLoop::start() {
  LARDER_CHECK(!thread_.joinable());
  {
    const std::lock_guard lock(mutex_);
    started_ = true;
  }
  thread_ = std::thread([this] { run(); });
}

Result<std::shared_ptr<EventChannel>> EngineLoop::submit(std::vector<LoopRequest> requests) {
  LARDER_CHECK(!requests.empty());
  auto group = std::make_shared<Group>();
  group->channel = std::make_shared<EventChannel>(limits_.channel_events, limits_.channel_bytes);
  group->n_open = requests.size();
  const std::lock_guard lock(mutex_);
  if (draining_) return fail(Errc::unavailable, "the server is shutting down");
  const std::size_t n_most = limits_.n_queued + n_slots_;
  if (requests.size() > n_most) {
    return fail(Errc::invalid_argument, "{} prompts at once, the server takes {} in all",
                requests.size(), n_most);
  }
  if (n_unfinished_ + requests.size() > n_most) {
    return fail(Errc::unavailable, "{} requests are unfinished, the server takes {} at once",
                n_unfinished_, n_most);
  }
  n_unfinished_ += requests.size();
  group->timeout_seconds = requests.front().timeout_seconds;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    queue_.push_back({group, static_cast<std::uint32_t>(i), std::move(requests[i])});
  }
  work_.notify_one();
  return group->channel;
}

void EngineLoop::drain() {
  const std::lock_guard lock(mutex_);
  draining_ = true;
}

bool EngineLoop::wait_until_done(double seconds) {
  std::unique_lock lock(mutex_);
  return done_.wait_for(lock, std::chrono::duration<double>(seconds),
                        [this] { return n_unfinished_ == 0; });
}

void EngineLoop::stop() {
  {
    const std::lock_guard lock(mutex_);
    draining_ = stopping_ = true;
    work_.notify_one();
  }
  if (thread_.joinable()) {
    thread_.join();
  } else {
    drop_all({Errc::unavailable, "the server is shutting down"});  // never started, or stopped
    drop_calls();
  }
}

LoopStats EngineLoop::stats() const {
  const std::lock_guard lock(mutex_);
  LoopStats stats = stats_;
  stats.n_queued = queue_.size();
  stats.n_waiting += queue_.size();
  stats.n_unfinished = n_unfinished_;
  return stats;
}

std::uint32_t EngineLoop::retry_after_seconds() const {
  const std::lock_guard lock(mutex_);
  // The slots free up one after the other: the next of them after this time.
  const double seconds = std::ceil(mean_seconds_ / static_cast<double>(n_slots_));
  return static_cast<std::uint32_t>(std::clamp(seconds, 1.0, 60.0));
}

void EngineLoop::run() {
  while (wait_for_work()) {
    run_calls();
    drop_abandoned();
    hand_over();
    step();
    publish();
  }
  drop_all({Errc::unavailable, "the server is shutting down"});
  drop_calls();
  publish();
}

bool EngineLoop::call(std::function<void(Engine&)> use) {
  const auto call = std::make_shared<Call>();
  call->use = std::move(use);
  std::unique_lock lock(mutex_);
  if (!started_ || stopping_) return false;
  calls_.push_back(call);
  work_.notify_one();
  called_.wait(lock, [&call] { return call->done || call->dropped; });
  return call->done;
}

void EngineLoop::run_calls() {
  std::vector<std::shared_ptr<Call>> calls;
  {
    const std::lock_guard lock(mutex_);
    calls.swap(calls_);
  }
  for (const auto& call : calls) {
    call->use(engine_);
    const std::lock_guard lock(mutex_);
    call->done = true;
    called_.notify_all();
  }
}

void EngineLoop::drop_calls() {
  const std::lock_guard lock(mutex_);
  for (const auto& call : calls_) call->dropped = true;
  calls_.clear();
  called_.notify_all();
}

std::optional<PrefixReport> EngineLoop::explain(const std::string& name) {
  std::optional<PrefixReport> report;
  call([&](Engine& engine) {
    const auto it = std::find_if(names_.rbegin(), names_.rend(),
                                 [&name](const auto& known) { return known.first == name; });
    if (it != names_.rend()) report = engine.prefix_report(it->second);
  });
  return report;
}

void EngineLoop::remember(std::string name, RequestId id) {
  constexpr std::size_t kMost = 256;  // as many as the engine has reports of
  names_.emplace_back(std::move(name), id);
  if (names_.size() > kMost) names_.pop_front();
}

bool EngineLoop::wait_for_work() {
  std::unique_lock lock(mutex_);
  work_.wait(lock, [this] {
    return stopping_ || !queue_.empty() || !running_.empty() || !calls_.empty();
  });
  return !stopping_;
}

/// Cancels what nobody reads any more and what has taken too long, queued or running.
void EngineLoop::drop_abandoned() {
  std::vector<std::shared_ptr<Group>> gone, late;
  const auto look = [&](const std::shared_ptr<Group>& group) {
    if (group->channel->abandoned()) gone.push_back(group);
    const double most = group->timeout_seconds;
    if (most > 0 && group->watch.seconds() > most) late.push_back(group);
  };
  {
    const std::lock_guard lock(mutex_);
    for (const Queued& queued : queue_) look(queued.group);
  }
  for (const auto& [id, running] : running_) look(running.group);
  for (const auto& group : gone) drop_group(group, std::nullopt);
  for (const auto& group : late) {
    drop_group(group, Error{Errc::unavailable, "the request's timeout has passed"});
  }
}

/// What its priority has become by waiting.
std::int64_t EngineLoop::rank(const Queued& queued) {
  return std::int64_t{queued.request.priority} - queued.n_overtaken / kOvertakings;
}

std::deque<EngineLoop::Queued>::iterator EngineLoop::next_in_turn() {
  return std::min_element(queue_.begin(), queue_.end(), [](const Queued& a, const Queued& b) {
    return rank(a) < rank(b);  // the first of the best: the oldest
  });
}

void EngineLoop::hand_over() {
  for (;;) {
    Queued next;
    {
      const std::lock_guard lock(mutex_);
      const auto first = next_in_turn();
      if (first == queue_.end() || !has_slots(first->request.request)) return;
      next = std::move(*first);
      std::for_each(queue_.begin(), first, [](Queued& older) { ++older.n_overtaken; });
      queue_.erase(first);
    }
    begin(std::move(next));
  }
}

bool EngineLoop::has_slots(const Request& request) const {
  // What asks for more than there is goes in as well, alone: the engine says what is wrong.
  return running_.empty() || n_running_samples_ + request.n_samples <= n_slots_;
}

void EngineLoop::begin(Queued queued) {
  Running running;
  running.group = queued.group;
  running.index = queued.index;
  Request& request = queued.request.request;
  request.priority = static_cast<std::int32_t>(std::max<std::int64_t>(rank(queued), INT32_MIN));
  running.n_samples = running.n_open_samples = request.n_samples;
  running.facts.n_prompt_tokens = request.prompt.size();
  running.facts.queue_seconds = queued.group->watch.seconds();
  const auto id = engine_.submit(std::move(request));
  if (!id) {
    drop_group(queued.group, id.error());
    forget(1);  // this one is in no list any more
    return;
  }
  remember(std::move(queued.request.name), *id);
  running.last_token.assign(running.n_samples, -1);
  n_running_samples_ += running.n_samples;
  running_.emplace(*id, std::move(running));
}

void EngineLoop::step() {
  if (running_.empty()) return;
  if (const auto stepped = engine_.step(report_); !stepped) {
    drop_all(stepped.error());
    return;
  }
  for (TokenEvent& event : report_.events) deliver(std::move(event));
}

void EngineLoop::deliver(TokenEvent event) {
  const auto it = running_.find(event.request);
  if (it == running_.end()) return;  // dropped while this step's events were delivered
  Running& running = it->second;
  if (event.token >= 0) count_token(running, event);
  if (event.token < 0) running.facts.finish = event.finish;  // of an embedding
  const bool ends = event.finish != FinishReason::none;
  const auto group = running.group;
  if (!group->channel->push({running.index, std::move(event)})) {
    drop_group(group, Error{Errc::unavailable, "the reader is too slow or gone"});
    return;
  }
  if (ends && --running.n_open_samples == 0) finish(it);
}

void EngineLoop::count_token(Running& running, const TokenEvent& event) {
  ++running.facts.n_generated_tokens;
  running.facts.n_reused_tokens = event.n_reused_tokens;
  if (event.sample == 0) running.facts.finish = event.finish;
  const double now = running.group->watch.seconds();
  double& last = running.last_token[event.sample];
  if (observer_ != nullptr) {
    if (last >= 0) observer_->next_token(now - last);
    if (last < 0 && running.facts.n_generated_tokens == 1) observer_->first_token(now);
  }
  last = now;
}

void EngineLoop::finish(RunningMap::iterator it) {
  Running running = std::move(it->second);
  running_.erase(it);
  n_running_samples_ -= running.n_samples;
  running.facts.seconds = running.group->watch.seconds();
  if (observer_ != nullptr) observer_->finished(running.facts);
  if (--running.group->n_open == 0) running.group->channel->close();
  {
    const std::lock_guard lock(mutex_);
    mean_seconds_ += (running.facts.seconds - running.facts.queue_seconds - mean_seconds_) / 8;
  }
  forget(1);
}

void EngineLoop::drop_group(const std::shared_ptr<Group>& group, std::optional<Error> error) {
  std::size_t n_dropped = 0;
  {
    const std::lock_guard lock(mutex_);
    n_dropped += std::erase_if(queue_, [&](const Queued& q) { return q.group == group; });
  }
  for (auto it = running_.begin(); it != running_.end();) {
    if (it->second.group != group) {
      ++it;
      continue;
    }
    engine_.cancel(it->first);
    n_running_samples_ -= it->second.n_samples;
    it->second.facts.finish = FinishReason::cancelled;
    it->second.facts.seconds = group->watch.seconds();
    if (observer_ != nullptr) observer_->finished(it->second.facts);
    it = running_.erase(it);
    ++n_dropped;
  }
  group->channel->close(std::move(error));
  forget(n_dropped);
}

void EngineLoop::drop_all(const Error& error) {
  for (;;) {
    std::shared_ptr<Group> group;
    {
      const std::lock_guard lock(mutex_);
      if (!queue_.empty()) group = queue_.front().group;
    }
    if (!running_.empty()) group = running_.begin()->second.group;
    if (!group) return;
    drop_group(group, error);
  }
}

void EngineLoop::forget(std::size_t n_requests) {
  const std::lock_guard lock(mutex_);
  n_unfinished_ -= n_requests;
  if (n_unfinished_ == 0) done_.notify_all();
}

void EngineLoop::publish() {
  EngineStats stats = engine_.stats();
  const std::lock_guard lock(mutex_);
  stats_.n_running = stats.n_running_requests;
  stats_.n_waiting = running_.size() - stats.n_running_requests;
  stats_.engine = stats;
}

}  // namespace larder
