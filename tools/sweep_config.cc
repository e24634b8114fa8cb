#include "sweep_config.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <initializer_list>
#include <sstream>
#include <type_traits>
#include <utility>

#include "base/fail.h"
#include "engine_flags.h"
#include "model_fingerprint.h"
#include "spellings.h"

namespace larder {
namespace {

/// The sweep's own.
const std::initializer_list<std::string_view> kOwnFields = {"model", "ctx-size", "parallel",
                                                            "kv-keep-total", "kv-memory"};

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") + 1 - begin);
}

std::vector<std::string> split_blanks(std::string_view text) {
  std::vector<std::string> words;
  for (std::size_t begin = 0; (begin = text.find_first_not_of(" \t", begin)) != text.npos;) {
    const std::size_t end = std::min(text.find_first_of(" \t", begin), text.size());
    words.emplace_back(text.substr(begin, end - begin));
    begin = end;
  }
  return words;
}

}  // namespace

Result<SweepConfig> parse_sweep_config(std::string_view line, const EngineOptions& base) {
  const std::size_t colon = line.find(':');
  SweepConfig config;
  config.name = trimmed(line.substr(0, colon));
  if (config.name.empty() || colon == std::string_view::npos) {
    return fail(Errc::invalid_argument, "'{}' is not NAME: FLAGS", line);
  }
  config.flags = trimmed(line.substr(colon + 1));
  config.options = base;
  CLI::App app("", config.name);
  app.set_help_flag();
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  add_engine_flags(app, config.options, kOwnFields);
  const std::vector<std::string> words = split_blanks(config.flags);
  std::vector<const char*> arguments = {config.name.c_str()};
  for (const std::string& word : words) arguments.push_back(word.c_str());
  try {
    app.parse(reversed_arguments(static_cast<int>(arguments.size()), arguments.data()));
  } catch (const CLI::ParseError& error) {
    return fail(Errc::invalid_argument, "configuration '{}': {}", config.name, error.what());
  }
  if (const auto valid = validate(config.options); !valid) {
    return fail(valid.error().code, "configuration '{}': {}", config.name, valid.error().message);
  }
  return config;
}

Result<std::vector<SweepConfig>> parse_sweep_configs(const std::vector<std::string>& lines,
                                                     const EngineOptions& base) {
  std::vector<SweepConfig> configs;
  for (const std::string& line : lines) {
    const std::string_view text = trimmed(line);
    if (text.empty() || text.front() == '#') continue;
    LARDER_ASSIGN(SweepConfig config, parse_sweep_config(text, base));
    for (const SweepConfig& other : configs) {
      if (other.name != config.name) continue;
      return fail(Errc::invalid_argument, "two configurations are called '{}'", config.name);
    }
    configs.push_back(std::move(config));
  }
  if (configs.empty()) return fail(Errc::invalid_argument, "there is no configuration to measure");
  return configs;
}

std::string result_options(const EngineOptions& options) {
  EngineOptions copy = options;  // for_each_field may change what it visits
  std::string text;
  for_each_field(copy, [&text](std::string_view field, const auto& value, const char* /*help*/) {
    if (std::find(kOwnFields.begin(), kOwnFields.end(), field) != kOwnFields.end()) return;
    text += fmt::format("{}{}={}", text.empty() ? "" : " ", field, value);
  });
  if (!options.kv.calibration.empty()) {  // what the file says, for it may be made anew
    std::ifstream file(options.kv.calibration, std::ios::binary);
    std::ostringstream content;
    content << file.rdbuf();
    text += fmt::format(" calibrated={}", text_fingerprint(content.str()));
  }
  return text;
}

}  // namespace larder
