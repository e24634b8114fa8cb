// larder eval calibrate: what kvq formats need to know of a model's keys.
#pragma once

#include <CLI/CLI.hpp>

namespace larder {

/// Adds "calibrate" to the command `eval`; see commands.h.
void add_eval_calibrate_command(CLI::App& eval, int& exit_code);

}  // namespace larder
