// `larder`: one binary, one subcommand per job.
#include <fcntl.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
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

/// A stream that is closed (`>&-`) would lend its number to the next file that is opened, and what
/// is printed would land in there. In its place stands a file with which the stream's own direction
/// fails, except that nobody is there to hear of a lost standard error.
void occupy_closed_streams() {
  constexpr int kModes[] = {O_WRONLY, O_RDONLY, O_RDWR};  // descriptors 0, 1 and 2
  for (int fd = 0; fd <= STDERR_FILENO; ++fd) {
    if (fcntl(fd, F_GETFD) != -1) continue;
    if (open("/dev/null", kModes[fd]) < 0) return;  // takes the lowest number, which is `fd`
  }
}

/// What was printed may only be lost with a word and a code.
int with_output_written(int exit_code) {
  const bool lost_before = std::ferror(stdout) != 0;
  const bool lost_now = std::fflush(stdout) != 0;
  if (exit_code != larder::kExitOk || !(lost_before || lost_now)) return exit_code;
  larder::complain(fmt::format("standard output cannot be written{}{}", lost_now ? ": " : "",
                               lost_now ? std::strerror(errno) : ""));
  return larder::kExitFailed;
}

int run_command(int argc, char** argv) {
  CLI::App app{"Larder: LLM inference around the KV cache", "larder"};
  // The last of a flag given twice counts, as in llama.cpp; subcommands inherit this.
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.set_version_flag("--version", std::string("larder ") + LARDER_VERSION);
  app.require_subcommand(1);
  int exit_code = larder::kExitOk;
  larder::add_run_command(app, exit_code);
  larder::add_serve_command(app, exit_code);
  larder::add_inspect_command(app, exit_code);
  larder::add_bench_command(app, exit_code);
  larder::add_eval_command(app, exit_code);
  larder::add_tokenize_command(app, exit_code);
  larder::add_convert_command(app, exit_code);
  larder::add_quantize_command(app, exit_code);
  larder::add_policies_command(app, exit_code);
  try {
    app.parse(larder::reversed_arguments(argc, argv));
  } catch (const CLI::ParseError& error) {  // help and version come this way too, with code 0
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);
    larder::complain(explain(app, error, argc, argv));
    return larder::kExitBadInput;
  }
  return exit_code;
}

}  // namespace

int main(int argc, char** argv) {
  occupy_closed_streams();
  return with_output_written(run_command(argc, argv));
}
