// larder eval heads: which KV heads look far, for policies that treat them differently.
#pragma once

#include <CLI/CLI.hpp>

namespace larder {

/// Adds "heads" to the command `eval`; see commands.h.
void add_eval_heads_command(CLI::App& eval, int& exit_code);

}  // namespace larder
