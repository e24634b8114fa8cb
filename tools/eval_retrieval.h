// larder eval passkey, needle and ruler: whether what stands far back is still found.
#pragma once

#include <CLI/CLI.hpp>

namespace larder {

/// Adds the three to the command `eval`; see commands.h.
void add_eval_retrieval_commands(CLI::App& eval, int& exit_code);

}  // namespace larder
