// larder eval sensitivity: what each layer's keys and values lose in a format, and the best table.
#pragma once

#include <CLI/CLI.hpp>

namespace larder {

/// Adds "sensitivity" to the command `eval`; see commands.h.
void add_eval_sensitivity_command(CLI::App& eval, int& exit_code);

}  // namespace larder
