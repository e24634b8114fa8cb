// larder eval sweep: configurations side by side, in memory, quality and speed.
#pragma once

#include <CLI/CLI.hpp>

namespace larder {

/// Adds "sweep" to the command `eval`; see commands.h.
void add_eval_sweep_command(CLI::App& eval, int& exit_code);

}  // namespace larder
