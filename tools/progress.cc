#include "progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "terminal.h"

namespace larder {

ProgressBar::ProgressBar(std::string label)
    : label_(std::move(label)), enabled_(stderr_is_terminal()), begin_(Clock::now()) {}

void ProgressBar::update(double fraction, const std::string& note) {
  if (!enabled_) return;
  const auto now = Clock::now();
  if (drawn_ && now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  fraction = std::clamp(fraction, 0.0, 1.0);
  constexpr int kWidth = 30;
  const int n_done = static_cast<int>(fraction * kWidth);
  std::string line = fmt::format("\r\x1b[K{} [{:#<{}}{:.<{}}] {:3.0f} %", label_, "", n_done, "",
                                 kWidth - n_done, fraction * 100);
  const double elapsed = std::chrono::duration<double>(now - begin_).count();
  // The first moments say little about the rest.
  if (elapsed > 1 && fraction > 0.01 && fraction < 1) {
    line += fmt::format("  {} left", show_duration(elapsed / fraction * (1 - fraction)));
  }
  if (!note.empty()) line += "  " + note;
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
  drawn_ = true;
}

void ProgressBar::finish() {
  if (drawn_) std::fputs("\r\x1b[K", stderr);
  drawn_ = false;
  enabled_ = false;
}

std::string show_duration(double seconds) {
  const auto total = static_cast<long>(seconds + 0.5);
  if (total < 60) return fmt::format("{} s", total);
  if (total < 3600) return fmt::format("{} min {:02} s", total / 60, total % 60);
  return fmt::format("{} h {:02} min", total / 3600, total % 3600 / 60);
}

}  // namespace larder
