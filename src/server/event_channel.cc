#include "server/event_channel.h"

#include <utility>

namespace larder {

std::size_t estimated_bytes(const TokenEvent& event) {
  constexpr std::size_t kChunk = 256;   // what stands around a token in a stream
  constexpr std::size_t kScored = 192;  // a token with its bytes and a number of 17 digits
  const std::size_t n_scored = (event.logprob ? 1 : 0) + event.top.size() + event.prompt.size();
  return kChunk + event.text.size() + n_scored * kScored + event.embedding.size() * sizeof(float);
}

std::vector<ChannelEvent> EventChannel::take() {
  const std::lock_guard lock(mutex_);
  n_bytes_ = 0;
  return std::exchange(events_, {});
}

void EventChannel::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return closed_ || !events_.empty(); });
}

bool EventChannel::ended() const {
  const std::lock_guard lock(mutex_);
  return closed_ && events_.empty();
}

std::optional<Error> EventChannel::error() const {
  const std::lock_guard lock(mutex_);
  return error_;
}

void EventChannel::abandon() {
  const std::lock_guard lock(mutex_);
  abandoned_ = true;
  events_.clear();
  n_bytes_ = 0;
  ready_ = nullptr;
}

void EventChannel::notify(std::function<void()> ready) {
  const std::lock_guard lock(mutex_);
  ready_ = std::move(ready);
  if (ready_ && (closed_ || !events_.empty())) ready_();
}

bool EventChannel::has_room(std::size_t n_bytes) const {
  if (events_.empty()) return true;
  return events_.size() < n_most_events_ && n_bytes_ + n_bytes <= n_most_bytes_;
}

bool EventChannel::push(ChannelEvent event) {
  const std::size_t n_bytes = estimated_bytes(event.event);
  const std::lock_guard lock(mutex_);
  if (abandoned_ || !has_room(n_bytes)) return false;
  n_bytes_ += n_bytes;
  events_.push_back(std::move(event));
  changed();
  return true;
}

void EventChannel::close(std::optional<Error> error) {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  closed_ = true;
  error_ = std::move(error);
  changed();
}

void EventChannel::changed() {
  changed_.notify_all();
  if (ready_) ready_();
}

}  // namespace larder
