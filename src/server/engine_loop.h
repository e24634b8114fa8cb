// The engine on a thread of its own, for many who ask at once.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "larder/engine.h"
#include "server/event_channel.h"

namespace larder {

struct LoopLimits {
  std::size_t n_queued = 256;                        // requests that may wait beside those that run
  std::size_t channel_events = 4096;                 // how far a reader may fall behind
  std::size_t channel_bytes = std::size_t{4} << 20;  // the same, as it would be written
};

struct LoopRequest {
  Request request;
  std::int32_t priority = 0;   // lower goes first, as vLLM's; see kOvertakings
  double timeout_seconds = 0;  // from submission to the last token; 0: none
  std::string name;            // by which `explain` finds it
};

struct FinishedRequest {
  std::uint64_t n_prompt_tokens = 0, n_reused_tokens = 0;
  std::uint64_t n_generated_tokens = 0;      // of all samples
  double queue_seconds = 0;                  // until the engine had it
  double seconds = 0;                        // from submission to the last token
  FinishReason finish = FinishReason::none;  // of sample 0; cancelled when it was dropped
};

/// Hears of times as they pass, on the loop's thread.
class LoopObserver {
 public:
  virtual ~LoopObserver() = default;
  virtual void first_token(double seconds) = 0;  // since submission
  virtual void next_token(double seconds) = 0;   // since the sample's token before
  virtual void finished(const FinishedRequest& request) = 0;
};

struct LoopStats {  // of requests, however many continuations each has
  EngineStats engine;
  std::size_t n_queued = 0;      // not yet handed to the engine
  std::size_t n_running = 0;     // the engine computes at least one continuation
  std::size_t n_waiting = 0;     // queued, or in the engine without blocks
  std::size_t n_unfinished = 0;  // queued and handed over
};

/// Takes requests from any thread, steps the engine while there is work and sleeps otherwise. By
/// priority, then first come, first served: a request is handed to the engine, which goes on by the
/// same order, when all of its samples may run. Once started, nobody else may touch the engine, but
/// for what never changes (tokenizer, config, options). Thread-safe.
class EngineLoop {
 public:
  /// `observer` may be null; it and `engine` must outlive the loop.
  EngineLoop(Engine& engine, const LoopLimits& limits, LoopObserver* observer);
  ~EngineLoop();  // stops
  EngineLoop(const EngineLoop&) = delete;
  EngineLoop& operator=(const EngineLoop&) = delete;

  /// Until then requests only queue up.
  void start();
  /// All of them or none. Their events come through one channel, told apart by their place in the
  /// list. Errors: unavailable when the queue is full or the loop is draining; invalid_argument
  /// when they are more than the loop ever takes. What the engine refuses (Engine::submit) ends the
  /// channel with that error.
  Result<std::shared_ptr<EventChannel>> submit(std::vector<LoopRequest> requests);

  /// Runs `use` on the loop's thread, between two steps, and waits for it. False when the loop has
  /// not started or stops first: then it did not run and will not.
  bool call(std::function<void(Engine&)> use);
  /// Why a request's prompt was cached as far as it was. Waits as `call`. Empty: not one of the
  /// last, or it has not begun.
  std::optional<PrefixReport> explain(const std::string& name);

  /// From here on `submit` refuses; what was accepted is finished.
  void drain();
  /// Blocks until nothing is unfinished or `seconds` have passed; true in the first case.
  bool wait_until_done(double seconds);
  /// Drains, cancels what is unfinished (its channel ends with `unavailable`) and ends the thread.
  void stop();

  bool draining() const noexcept { return draining_; }  // takes no lock
  LoopStats stats() const;
  /// When a refused request may find room, from the length of the last ones: 1 to 60 seconds.
  std::uint32_t retry_after_seconds() const;

 private:
  struct Group {  // what was submitted together. Owners: its requests, queued or running
    std::shared_ptr<EventChannel> channel;
    std::size_t n_open = 0;      // requests that have not finished
    double timeout_seconds = 0;  // 0: none
    Stopwatch watch;
  };
  struct Queued {
    std::shared_ptr<Group> group;
    std::uint32_t index = 0;
    LoopRequest request;
    std::uint32_t n_overtaken = 0;  // times a later one was taken before it
  };
  struct Call {  // owners: who waits, and the loop until it has run
    std::function<void(Engine&)> use;
    bool done = false, dropped = false;
  };
  struct Running {
    std::shared_ptr<Group> group;
    std::uint32_t index = 0;
    std::uint32_t n_samples = 0, n_open_samples = 0;
    std::vector<double> last_token;  // [n_samples] seconds since submission; negative: none yet
    FinishedRequest facts;
  };
  using RunningMap = std::unordered_map<RequestId, Running>;

  void run();
  bool wait_for_work();
  void run_calls();
  void drop_calls();
  void drop_abandoned();
  void hand_over();
  bool has_slots(const Request& request) const;
  static std::int64_t rank(const Queued& queued);
  std::deque<Queued>::iterator next_in_turn();
  void begin(Queued queued);
  void step();
  void deliver(TokenEvent event);
  void count_token(Running& running, const TokenEvent& event);
  void finish(RunningMap::iterator it);
  void drop_group(const std::shared_ptr<Group>& group, std::optional<Error> error);
  void drop_all(const Error& error);
  void forget(std::size_t n_requests);
  void remember(std::string name, RequestId id);
  void publish();

  Engine& engine_;
  const LoopLimits limits_;
  LoopObserver* const observer_;
  const std::size_t n_slots_;  // sequences that may run at once

  mutable std::mutex mutex_;
  std::condition_variable work_, done_, called_;
  std::deque<Queued> queue_;  // in order of arrival
  std::vector<std::shared_ptr<Call>> calls_;
  std::size_t n_unfinished_ = 0;
  LoopStats stats_;
  double mean_seconds_ = 1;  // of a request, the last ones counting most
  bool started_ = false, stopping_ = false;
  std::atomic<bool> draining_ = false;

  // Of the loop's thread alone.
  RunningMap running_;
  std::size_t n_running_samples_ = 0;
  StepReport report_;                                    // its memory serves every step
  std::deque<std::pair<std::string, RequestId>> names_;  // of those that began last
  std::thread thread_;
};

}  // namespace larder
