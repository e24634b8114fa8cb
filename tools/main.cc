// `larder`: one binary, one subcommand per job.
#include <fmt/ranges.h>

#include <string>
#include <vector>

#include "commands.h"
#include "failure.h"
#include "spellings.h"

namespace {

/// CLI11 says "A subcommand is required" for an unknown one too.
std::string explain(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
  std::vector<std::string> known;
  for (const CLI::App* command : app.get_subcommands({})) known.push_back(command->get_name());
  if (argc < 2) return fmt::format("which subcommand? There are: {}", fmt::join(known, ", "));
  const std::string first = argv[1];
  if (app.get_subcommands().empty() && first.starts_with("-")) {
    return fmt::format("'{}' is no flag of larder itself; subcommands: {}", first,
                       fmt::join(known, ", "));
  }
  if (app.get_subcommands().empty()) {
    return fmt::format("'{}' is no subcommand; there are: {}", first, fmt::join(known, ", "));
  }
  return error.what();
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Larder: LLM inference around the KV cache", "larder"};
  app.set_version_flag("--version", std::string("larder ") + LARDER_VERSION);
  app.require_subcommand(1);
  int exit_code = larder::kExitOk;
  larder::add_run_command(app, exit_code);
  larder::add_inspect_command(app, exit_code);
  larder::add_bench_command(app, exit_code);
  larder::add_eval_command(app, exit_code);
  larder::add_tokenize_command(app, exit_code);
  larder::add_convert_command(app, exit_code);
  larder::add_quantize_command(app, exit_code);
  try {
    app.parse(larder::reversed_arguments(argc, argv));
  } catch (const CLI::ParseError& error) {  // help and version come this way too, with code 0
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);
    larder::complain(explain(app, error, argc, argv));
    return larder::kExitBadInput;
  }
  return exit_code;
}
