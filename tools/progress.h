// A progress bar with the time that is left.
#pragma once

#include <chrono>
#include <string>

namespace larder {

/// Drawn on standard error when that is a terminal, at most ten times a second; silent elsewhere.
/// The line is erased at the end. Not thread-safe.
class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  ~ProgressBar() { finish(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// `fraction` of the work that is done, 0..1; `note` stands behind the bar ("ppl 7.31").
  void update(double fraction, const std::string& note = {});
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  std::string label_;
  bool enabled_;
  bool drawn_ = false;
  Clock::time_point begin_, last_;
};

/// "12 s", "3 min 05 s", "2 h 07 min".
std::string show_duration(double seconds);

}  // namespace larder
