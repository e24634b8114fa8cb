#include "spellings.h"

#include <algorithm>
#include <array>

namespace larder {
namespace {

struct Spelling {
  std::string_view dashed, name;
};

constexpr std::array kSpellings = {
    Spelling{"-ctk", "--cache-type-k"}, Spelling{"-ctv", "--cache-type-v"},
    Spelling{"-ub", "--ubatch-size"},   Spelling{"-np", "--parallel"},
    Spelling{"-sys", "--system"},       Spelling{"-cnv", "--chat"},
    Spelling{"-no-cnv", "--no-chat"},   Spelling{"-pg", "--prompt-gen"},
};

std::string long_name(std::string_view argument) {
  for (const Spelling& spelling : kSpellings) {
    if (!argument.starts_with(spelling.dashed)) continue;
    const std::string_view rest = argument.substr(spelling.dashed.size());
    if (rest.empty() || rest.front() == '=') return std::string(spelling.name).append(rest);
  }
  return std::string(argument);
}

}  // namespace

std::vector<std::string> reversed_arguments(int argc, const char* const* argv) {
  std::vector<std::string> arguments;
  bool literal = false;
  for (int i = 1; i < argc; ++i) {
    literal = literal || std::string_view(argv[i]) == "--";
    arguments.push_back(literal ? std::string(argv[i]) : long_name(argv[i]));
  }
  std::reverse(arguments.begin(), arguments.end());
  return arguments;
}

std::string_view dashed_spelling(std::string_view long_name) {
  for (const Spelling& spelling : kSpellings) {
    if (spelling.name == long_name) return spelling.dashed;
  }
  return {};
}

}  // namespace larder
