// Runs the built binary as a user would.
#pragma once

#include <string>
#include <vector>

namespace larder {

struct Outcome {
  int exit_code = -1;  // 128 + signal when one ended it
  std::string out, err;
};

/// Runs `larder` with these arguments and this standard input (a pipe: nothing is a terminal).
Outcome run_larder(const std::vector<std::string>& arguments, const std::string& input = {});

/// The same with files, devices or directories as standard output and standard input.
Outcome run_larder_to(const std::string& output, const std::vector<std::string>& arguments,
                      const std::string& input = "/dev/null");

/// The same with a terminal as standard input, into which `typed` is typed.
Outcome type_to_larder(const std::vector<std::string>& arguments, const std::string& typed);

/// Starts it, waits for its first output, presses Ctrl-C, and waits for its end.
Outcome interrupt_larder(const std::vector<std::string>& arguments);

/// A path in a directory of this process, removed at its end.
std::string temporary_path(const std::string& name);

/// A file there with this content.
std::string temporary_file(const std::string& name, const std::string& content);

/// A model of random weights, a hundred kilobytes, written once by `larder bench`.
std::string tiny_model();

/// The embedded model, which writes stories.
std::string stories_model();

}  // namespace larder
