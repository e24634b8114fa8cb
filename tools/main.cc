// `larder`: one binary, one subcommand per job.
#include <string>

#include "commands.h"
#include "failure.h"
#include "spellings.h"

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
    larder::complain(std::string(error.what()) + " (see larder --help)");
    return larder::kExitBadInput;
  }
  return exit_code;
}
