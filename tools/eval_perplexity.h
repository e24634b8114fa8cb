// larder eval perplexity: how well a model foresees a text.
#pragma once

#include <CLI/CLI.hpp>

namespace larder {

/// Adds "perplexity" to the command `eval`; see commands.h.
void add_eval_perplexity_command(CLI::App& eval, int& exit_code);

}  // namespace larder
