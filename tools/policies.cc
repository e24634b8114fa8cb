// `larder policies`: the eviction policies by name.
#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <string>

#include "commands.h"
#include "failure.h"
#include "json_output.h"
#include "policy/methods.h"

namespace larder {
namespace {

std::string defaults_text(const Method& method) {
  std::string text;
  for (const std::string_view name : method.parameters) {
    text += fmt::format("{}{}={}", text.empty() ? "" : ",", name, parameter(method.policy, name));
  }
  return text;
}

void print_text() {
  for (const Method& method : methods()) {
    fmt::print("{}\n    {}\n    {}\n    {}\n", method.name, method.description, method.source,
               defaults_text(method));
  }
}

void print_methods_json() {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const Method& method : methods()) {
    nlohmann::ordered_json parameters = nlohmann::ordered_json::object();
    for (const std::string_view name : method.parameters) {
      parameters[std::string(name)] = parameter(method.policy, name);
    }
    json.push_back({{"name", method.name},
                    {"description", method.description},
                    {"source", method.source},
                    {"query_agnostic", method.query_agnostic},
                    {"parameters", std::move(parameters)}});
  }
  print_json(json);
}

}  // namespace

void add_policies_command(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("policies", "Which cached rows stay: the methods of --kv-policy");
  auto as_json = std::make_shared<bool>(false);
  command->add_flag("--json", *as_json, "one JSON array on standard output");
  command->callback([as_json, &exit_code] {
    *as_json ? print_methods_json() : print_text();
    exit_code = kExitOk;
  });
}

}  // namespace larder
