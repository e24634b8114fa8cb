// larder eval kl: two models, or one model with two sets of options, on the same text.
#pragma once

#include <CLI/CLI.hpp>

namespace larder {

/// Adds "kl" to the command `eval`; see commands.h.
void add_eval_kl_command(CLI::App& eval, int& exit_code);

}  // namespace larder
