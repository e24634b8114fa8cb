// larder convert: Hugging Face directories and llama2.c checkpoints to GGUF.
#include "model/io/convert.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "base/fail.h"
#include "commands.h"
#include "failure.h"
#include "flag_values.h"
#include "json_output.h"
#include "progress.h"
#include "table.h"

namespace larder {
namespace {

struct ConvertFlags {
  ConvertOptions options;
  std::uint32_t n_threads = 0;
  bool json = false;
};

Result<DType> parse_type(const std::string& text) {
  if (const auto dtype = parse_dtype(text)) return *dtype;
  return fail(Errc::invalid_argument, "'{}' is no type that Larder writes: {}", text,
              "f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k");
}

std::string name_of(DType dtype) { return std::string(dtype_info(dtype).name); }

double bits_per_weight(const ConvertReport& report) {
  return 8.0 * static_cast<double>(report.weight_bytes) / static_cast<double>(report.n_weights);
}

nlohmann::ordered_json to_json(const ConvertReport& report, const ConvertOptions& options) {
  nlohmann::ordered_json json{
      {"input", options.input},        {"output", options.output},
      {"architecture", report.arch},   {"type", name_of(report.type)},
      {"n_tensors", report.n_tensors}, {"n_weights", report.n_weights},
      {"bytes", report.weight_bytes},  {"bits_per_weight", bits_per_weight(report)}};
  json["warnings"] = report.warnings;
  auto& fallbacks = json["fallbacks"] = nlohmann::ordered_json::array();
  for (const ConvertFallback& fallback : report.fallbacks) {
    fallbacks.push_back({{"name", fallback.tensor}, {"type", name_of(fallback.type)}});
  }
  return json;
}

/// One line per type that stands in; with thousands of tensors nobody reads one line each.
void print_fallbacks(const ConvertReport& report) {
  std::map<DType, std::size_t> counts;
  for (const ConvertFallback& fallback : report.fallbacks) ++counts[fallback.type];
  for (const auto& [type, n] : counts) {
    fmt::print("{} tensor{} as {}: rows are not whole blocks of {} ({} elements)\n", n,
               n == 1 ? "" : "s", name_of(type), name_of(report.type),
               dtype_info(report.type).block_elems);
  }
}

int convert(const ConvertFlags& flags) {
  ConvertOptions options = flags.options;
  options.n_threads =
      flags.n_threads != 0 ? flags.n_threads : std::max(1U, std::thread::hardware_concurrency());
  ProgressBar bar("convert");
  const auto report = convert_model(options, [&bar](std::string_view tensor, float done) {
    bar.update(done, std::string(tensor));
  });
  bar.finish();
  if (!report) return report_failure(report.error());
  for (const std::string& warning : report->warnings) complain("warning: " + warning);
  if (flags.json) {
    print_json(to_json(*report, options));
    return kExitOk;
  }
  print_fallbacks(*report);
  fmt::print("{}: {}, {} tensors, {}, {:.2f} bits per weight\n", options.output, report->arch,
             report->n_tensors, show_bytes(static_cast<double>(report->weight_bytes)),
             bits_per_weight(*report));
  return kExitOk;
}

}  // namespace

void add_convert_command(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<ConvertFlags>();  // owned by the callback below
  ConvertOptions& options = flags->options;
  CLI::App* command =
      app.add_subcommand("convert", "Hugging Face directory or llama2.c checkpoint to GGUF");
  command->add_option("INPUT", options.input, "directory with config.json, or llama2.c's .bin")
      ->required();
  command->add_option("OUTPUT", options.output, "GGUF file to write")->required();
  add_parsed(
      *command, "--type,--outtype", parse_type, [flags](DType t) { flags->options.type = t; },
      "type of the matrices: f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k or q6_k "
      "(default: as in the input)")
      ->type_name("TYPE");
  command->add_option("--tokenizer", options.tokenizer, "llama2.c's tok*.bin");
  command->add_option("--name", options.name, "general.name of the model");
  command->add_option("--license", options.license, "general.license, an SPDX name");
  add_number(*command, "-t,--threads", flags->n_threads, "threads (0: one per core)");
  command->add_flag("--json", flags->json, "one JSON object instead of text");
  command->callback([flags, &exit_code] { exit_code = convert(*flags); });
}

}  // namespace larder
