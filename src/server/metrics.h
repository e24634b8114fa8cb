// Numbers for Prometheus, under vLLM's names and units with the prefix `larder:`.
#pragma once

#include <memory>
#include <string>

#include "server/engine_loop.h"

namespace larder {

/// Counts what the loop reports. Thread-safe.
class Metrics : public LoopObserver {
 public:
  /// `model_name` becomes the label of every series.
  explicit Metrics(const std::string& model_name);
  ~Metrics() override;
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  void first_token(double seconds) override;
  void next_token(double seconds) override;
  void finished(const FinishedRequest& request) override;
  /// A request that found the queue full, or the server shutting down.
  void refused();

  /// The exposition format, text version 0.0.4.
  std::string text(const LoopStats& stats);

 private:
  struct Series;
  std::unique_ptr<Series> series_;
};

}  // namespace larder
