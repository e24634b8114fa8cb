#include "process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>

namespace larder {
namespace {

namespace fs = std::filesystem;

/// A directory that lives as long as the process.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = (fs::temp_directory_path() / "larder-test-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TemporaryDirectory() { fs::remove_all(path_); }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

const fs::path& directory() {
  static const TemporaryDirectory instance;
  return instance.path();
}

struct Pipe {
  int read_end = -1, write_end = -1;
  Pipe() {
    std::array<int, 2> ends{};
    EXPECT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
    read_end = ends[0];
    write_end = ends[1];
  }
};

class Child {
 public:
  /// Standard output goes to `output`; below 0: to the pipe that is read.
  Child(const std::vector<std::string>& arguments, int input, int output = -1) {
    std::vector<const char*> argv = {LARDER_BINARY};
    for (const std::string& argument : arguments) argv.push_back(argument.c_str());
    argv.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(input, STDIN_FILENO);
      dup2(output < 0 ? out_.write_end : output, STDOUT_FILENO);
      dup2(err_.write_end, STDERR_FILENO);
      execv(LARDER_BINARY, const_cast<char* const*>(argv.data()));
      _exit(127);
    }
    close(out_.write_end);
    close(err_.write_end);
  }
  /// Reads both streams until `until_output` (some standard output came) or their ends.
  void read(bool until_output) {
    std::array<pollfd, 2> files = {{{out_.read_end, POLLIN, 0}, {err_.read_end, POLLIN, 0}}};
    std::array<std::string*, 2> texts = {&outcome_.out, &outcome_.err};
    while ((files[0].fd >= 0 || files[1].fd >= 0) && !(until_output && !outcome_.out.empty())) {
      poll(files.data(), files.size(), -1);
      for (std::size_t i = 0; i < files.size(); ++i) {
        if (files[i].fd < 0 || files[i].revents == 0) continue;
        std::array<char, 4096> bytes{};
        const ssize_t n = ::read(files[i].fd, bytes.data(), bytes.size());
        if (n > 0) {
          texts[i]->append(bytes.data(), static_cast<std::size_t>(n));
        } else {
          files[i].fd = -1;
        }
      }
    }
  }
  void send(int signal) const { kill(pid_, signal); }
  Outcome finish() {
    read(false);
    close(out_.read_end);
    close(err_.read_end);
    int status = 0;
    waitpid(pid_, &status, 0);
    outcome_.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return outcome_;
  }

 private:
  Pipe out_, err_;
  pid_t pid_ = -1;
  Outcome outcome_;
};

}  // namespace

Outcome run_larder(const std::vector<std::string>& arguments, const std::string& input) {
  const std::string path = temporary_file("stdin", input);
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  Child child(arguments, file);
  close(file);
  return child.finish();
}

Outcome run_larder_to(const std::string& output, const std::vector<std::string>& arguments,
                      const std::string& input) {
  const int from = open(input.c_str(), O_RDONLY | O_CLOEXEC);
  const int to = open(output.c_str(), O_WRONLY | O_CLOEXEC);
  EXPECT_GE(from, 0);
  EXPECT_GE(to, 0);
  Child child(arguments, from, to);
  close(from);
  close(to);
  return child.finish();
}

Outcome type_to_larder(const std::vector<std::string>& arguments, const std::string& typed) {
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  EXPECT_GE(terminal, 0);
  EXPECT_EQ(grantpt(terminal), 0);
  EXPECT_EQ(unlockpt(terminal), 0);
  const int input = open(ptsname(terminal), O_RDWR | O_NOCTTY | O_CLOEXEC);
  EXPECT_EQ(write(terminal, typed.data(), typed.size()), static_cast<ssize_t>(typed.size()));
  Child child(arguments, input);
  Outcome outcome = child.finish();
  close(input);
  close(terminal);
  return outcome;
}

Outcome interrupt_larder(const std::vector<std::string>& arguments) {
  const int input = open("/dev/null", O_RDONLY | O_CLOEXEC);
  Child child(arguments, input);
  close(input);
  child.read(true);
  child.send(SIGINT);
  return child.finish();
}

std::string temporary_path(const std::string& name) { return (directory() / name).string(); }

std::string temporary_file(const std::string& name, const std::string& content) {
  const std::string path = temporary_path(name);
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

std::string tiny_model() {
  const std::string path = temporary_path("tiny.gguf");
  if (!fs::exists(path)) {
    const Outcome made = run_larder(
        {"bench", "--random-model", "tiny", "--output", path, "-p", "8", "-n", "0", "-r", "1"});
    EXPECT_EQ(made.exit_code, 0) << made.err;
  }
  return path;
}

std::string stories_model() { return std::string(LARDER_MODELS_DIR) + "/stories260K.gguf"; }

}  // namespace larder
