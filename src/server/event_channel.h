// What the engine's thread tells the one who waits for a request.
#pragma once

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

/// A bounded queue with one writer (the engine's thread) and one reader. The writer never waits: a
/// reader that falls `capacity` events behind loses its requests. Thread-safe.
class EventChannel {
 public:
  explicit EventChannel(std::size_t capacity) : capacity_(capacity) {}
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
  bool abandoned() const;

 private:
  void changed();  // REQUIRES: mutex_ is held

  const std::size_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<ChannelEvent> events_;
  std::optional<Error> error_;
  std::function<void()> ready_;
  bool closed_ = false, abandoned_ = false;
};

}  // namespace larder
