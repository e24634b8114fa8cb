// What the process is connected to, and Ctrl-C.
#pragma once

namespace larder {

bool stdin_is_terminal() noexcept;
bool stdout_is_terminal() noexcept;
bool stderr_is_terminal() noexcept;

/// While one lives, Ctrl-C sets `interrupted()` instead of ending the process; a second Ctrl-C ends
/// it all the same. One at a time: a signal handler belongs to the process.
class InterruptGuard {
 public:
  InterruptGuard();   // clears `interrupted()`
  ~InterruptGuard();  // Ctrl-C ends the process again
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
  static bool interrupted() noexcept;
};

}  // namespace larder
