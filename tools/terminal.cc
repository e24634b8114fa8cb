#include "terminal.h"

#include <unistd.h>

#include <csignal>

namespace larder {
namespace {

// A signal handler can reach nothing but a global.
volatile std::sig_atomic_t g_interrupted = 0;

extern "C" void on_interrupt(int /*signal*/) { g_interrupted = 1; }

}  // namespace

bool stdin_is_terminal() noexcept { return isatty(STDIN_FILENO) == 1; }
bool stdout_is_terminal() noexcept { return isatty(STDOUT_FILENO) == 1; }
bool stderr_is_terminal() noexcept { return isatty(STDERR_FILENO) == 1; }

InterruptGuard::InterruptGuard() {
  g_interrupted = 0;
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  action.sa_flags = static_cast<int>(SA_RESETHAND);  // the second Ctrl-C gets the default
  sigaction(SIGINT, &action, nullptr);
}

InterruptGuard::~InterruptGuard() { std::signal(SIGINT, SIG_DFL); }

bool InterruptGuard::interrupted() noexcept { return g_interrupted != 0; }

}  // namespace larder
