// larder inspect: what a model is and what its KV cache takes.
#include <cstdio>
#include <memory>
#include <string>

#include "commands.h"
#include "failure.h"
#include "flag_values.h"
#include "inspect_report.h"
#include "json_output.h"

namespace larder {
namespace {

struct InspectFlags {
  std::string path;
  InspectOptions options;
  bool json = false;
};

/// A whole model, or what can be read of a file that is none (a vocabulary, an unknown family).
Result<std::unique_ptr<ModelSource>> open_any(const std::string& path, std::string& reason) {
  auto source = open_model(path);
  if (source) return source;
  auto vocabulary = open_model(path, {.vocab_only = true});
  if (!vocabulary) return source;  // the first error says more
  reason = source.error().message;
  return vocabulary;
}

int inspect(InspectFlags& flags) {
  const auto source = open_any(flags.path, flags.options.not_a_model);
  if (!source) return report_failure(source.error());
  auto& memory = flags.options.memory_bytes;
  if (memory.empty()) memory = {1ULL << 30, 4ULL << 30, 8ULL << 30, 16ULL << 30, 24ULL << 30};
  if (flags.json) {
    print_json(inspect_json(**source, flags.options));
  } else {
    std::fputs(inspect_text(**source, flags.options).c_str(), stdout);
  }
  return kExitOk;
}

}  // namespace

void add_inspect_command(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<InspectFlags>();  // owned by the callbacks below
  CLI::App* command = app.add_subcommand("inspect", "what a model is and what its KV cache takes");
  command
      ->add_option("FILE,-m,--model", flags->path,
                   "GGUF file or Hugging Face directory (also after -m or --model)")
      ->required();
  const auto parse = [](const std::string& text) -> Result<std::vector<std::uint64_t>> {
    LARDER_ASSIGN(const auto parts, split_list(text));
    std::vector<std::uint64_t> sizes;
    for (const std::string& part : parts) {
      LARDER_ASSIGN(const std::uint64_t n_bytes, parse_bytes(part));
      sizes.push_back(n_bytes);
    }
    return sizes;
  };
  add_parsed(
      *command, "--memory", parse,
      [flags](std::vector<std::uint64_t> sizes) { flags->options.memory_bytes = std::move(sizes); },
      "sizes for which the longest context is shown, e.g. 8G,24G")
      ->type_name("SIZE,...");
  command->add_flag("--tensors", flags->options.tensors, "list the tensors");
  command->add_flag("--json", flags->json, "one JSON object instead of text");
  command->callback([flags, &exit_code] { exit_code = inspect(*flags); });
}

}  // namespace larder
