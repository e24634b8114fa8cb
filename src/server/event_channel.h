// What the engine's thread tells the one who waits for a request.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "larder/engine.h"

namespace larder {

/// A token event and which of the requests that were submitted together it belongs to.
struct ChannelEvent {
  std::uint32_t index = 0;
  TokenEvent event;
};

/// About how many bytes an event becomes on the wire, which is more than it takes in here.
std::size_t estimated_bytes(const TokenEvent& event);

/// A bounded queue with one writer (the engine's thread) and one reader. The writer never waits: a
/// reader that falls `n_most_events` or (by `estimated_bytes`) `n_most_bytes` behind loses its
/// requests; a single event always finds room. Thread-safe.
class EventChannel {
 public:
  EventChannel(std::size_t n_most_events, std::size_t n_most_bytes)
      : n_most_events_(n_most_events), n_most_bytes_(n_most_bytes) {}
  EventChannel(const EventChannel&) = delete;
  EventChannel& operator=(const EventChannel&) = delete;

  /// What has arrived since the last call.
  std::vector<ChannelEvent> take();
  /// Blocks until there is something to take or nothing more will come.
  void wait();
  /// Nothing is left and nothing more will come.
  bool ended() const;
  /// Why it was closed before its requests had finished.
  std::optional<Error> error() const;
  /// The reader is gone: its requests are cancelled before the next step.
  void abandon();
  /// `ready` is called, on the writer's thread, after each change; at once when there was one
  /// already. It must not call the channel. An empty function takes the old one away.
  void notify(std::function<void()> ready);

  /// For the writer. False when the reader is gone or too slow.
  bool push(ChannelEvent event);
  void close(std::optional<Error> error = std::nullopt);
  bool abandoned() const noexcept { return abandoned_; }  // takes no lock

 private:
  void changed();  // REQUIRES: mutex_ is held

  bool has_room(std::size_t n_bytes) const;  // REQUIRES: mutex_ is held

  const std::size_t n_most_events_, n_most_bytes_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<ChannelEvent> events_;
  std::size_t n_bytes_ = 0;  // of events_
  std::optional<Error> error_;
  std::function<void()> ready_;
  bool closed_ = false;
  std::atomic<bool> abandoned_ = false;
};

}  // namespace larder
