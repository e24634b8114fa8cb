#include "server/event_channel.h"

#include <utility>

namespace larder {

std::vector<ChannelEvent> EventChannel::take() {
  const std::lock_guard lock(mutex_);
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
  ready_ = nullptr;
}

void EventChannel::notify(std::function<void()> ready) {
  const std::lock_guard lock(mutex_);
  ready_ = std::move(ready);
  if (ready_ && (closed_ || !events_.empty())) ready_();
}

bool EventChannel::push(ChannelEvent event) {
  const std::lock_guard lock(mutex_);
  if (abandoned_ || events_.size() == capacity_) return false;
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

bool EventChannel::abandoned() const {
  const std::lock_guard lock(mutex_);
  return abandoned_;
}

void EventChannel::changed() {
  changed_.notify_all();
  if (ready_) ready_();
}

}  // namespace larder
