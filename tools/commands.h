// The subcommands of `larder`, one line each. Every function adds a subcommand whose callback does
// the work and sets `exit_code` (see failure.h); nothing runs before the command line is parsed as
// a whole.
#pragma once

#include <CLI/CLI.hpp>

namespace larder {

void add_run_command(CLI::App& app, int& exit_code);
void add_serve_command(CLI::App& app, int& exit_code);
void add_inspect_command(CLI::App& app, int& exit_code);
void add_bench_command(CLI::App& app, int& exit_code);
void add_eval_command(CLI::App& app, int& exit_code);
void add_tokenize_command(CLI::App& app, int& exit_code);
void add_convert_command(CLI::App& app, int& exit_code);
void add_quantize_command(CLI::App& app, int& exit_code);
void add_policies_command(CLI::App& app, int& exit_code);

}  // namespace larder
