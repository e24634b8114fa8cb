// larder quantize: GGUF to GGUF with other weight types.
#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <string>

#include "base/thread_count.h"
#include "commands.h"
#include "failure.h"
#include "flag_values.h"
#include "json_output.h"
#include "model/io/gguf_cursor.h"
#include "model/io/quantize_file.h"
#include "progress.h"
#include "table.h"

namespace larder {
namespace {

struct QuantizeFlags {
  QuantizeOptions options;
  std::uint32_t n_threads = 0;
  bool json = false, verbose = false;
};

Result<DType> parse_type(const std::string& text) {
  if (const auto dtype = parse_dtype(text)) return *dtype;
  return fail(Errc::invalid_argument, "'{}' is no type that Larder writes: {}", text,
              "f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k");
}

std::string name_of(DType dtype) { return std::string(dtype_info(dtype).name); }

nlohmann::ordered_json to_json(const QuantizeReport& report, const QuantizeOptions& options) {
  nlohmann::ordered_json json{{"input", options.input},
                              {"output", options.output},
                              {"type", name_of(options.type)},
                              {"bytes_in", report.bytes_in},
                              {"bytes_out", report.bytes_out},
                              {"n_weights", report.n_elems},
                              {"bits_per_weight", report.bits_per_weight()}};
  auto& tensors = json["tensors"] = nlohmann::ordered_json::array();
  for (const QuantizedTensor& t : report.tensors) {
    nlohmann::ordered_json entry{{"name", t.name},         {"from", name_of(t.from)},
                                 {"to", name_of(t.to)},    {"n_weights", t.n_elems},
                                 {"bytes_in", t.bytes_in}, {"bytes_out", t.bytes_out}};
    if (t.wanted) entry["wanted"] = name_of(*t.wanted);
    tensors.push_back(std::move(entry));
  }
  return json;
}

/// One line per kind of stand-in; with thousands of tensors nobody reads one line each.
void print_fallbacks(const QuantizeReport& report) {
  std::map<std::pair<DType, DType>, std::size_t> counts;
  for (const QuantizedTensor& t : report.tensors) {
    if (t.wanted) ++counts[{*t.wanted, t.to}];
  }
  for (const auto& [types, n] : counts) {
    fmt::print("{} tensor{} as {}: rows are not whole blocks of {} ({} elements)\n", n,
               n == 1 ? "" : "s", name_of(types.second), name_of(types.first),
               dtype_info(types.first).block_elems);
  }
}

void print_tensors(const QuantizeReport& report) {
  Table table;
  table.header = {"tensor", "from", "to", "bytes"};
  for (const QuantizedTensor& t : report.tensors) {
    table.rows.push_back(
        {printable(t.name), name_of(t.from), name_of(t.to), fmt::format("{}", t.bytes_out)});
  }
  std::fputs(plain_table(table).c_str(), stdout);
}

int quantize(const QuantizeFlags& flags) {
  QuantizeOptions options = flags.options;
  options.n_threads = thread_count(flags.n_threads);
  ProgressBar bar("quantize");
  const auto report = quantize_file(options, [&bar](const QuantizeProgress& p) {
    bar.update(p.fraction,
               fmt::format("{}/{} {}", p.index + 1, p.n_tensors, printable(p.tensor->name)));
  });
  bar.finish();
  if (!report) return report_failure(report.error());
  if (flags.json) {
    print_json(to_json(*report, options));
    return kExitOk;
  }
  if (flags.verbose) print_tensors(*report);
  print_fallbacks(*report);
  fmt::print("{}: {} -> {}, {:.2f} bits per weight\n", options.output,
             show_bytes(static_cast<double>(report->bytes_in)),
             show_bytes(static_cast<double>(report->bytes_out)), report->bits_per_weight());
  return kExitOk;
}

}  // namespace

void add_quantize_command(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<QuantizeFlags>();  // owned by the callback below
  QuantizeOptions& options = flags->options;
  CLI::App* command = app.add_subcommand("quantize", "GGUF to GGUF with other weight types");
  command->add_option("INPUT", options.input, "GGUF file")->required();
  command->add_option("OUTPUT", options.output, "GGUF file to write")->required();
  add_parsed(
      *command, "TYPE", parse_type, [flags](DType t) { flags->options.type = t; },
      "f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k or q6_k")
      ->required();
  add_parsed(
      *command, "--output-tensor-type,--keep-output", parse_type,
      [flags](DType t) { flags->options.output_type = t; },
      "type of output.weight (default: at least q6_k)")
      ->type_name("TYPE");
  add_parsed(
      *command, "--token-embedding-type", parse_type,
      [flags](DType t) { flags->options.embedding_type = t; }, "type of token_embd.weight")
      ->type_name("TYPE");
  command->add_flag("--pure", options.pure, "TYPE for output and embedding too");
  command->add_flag("--allow-requantize", options.allow_requantize,
                    "accept input that is quantised already");
  add_number(*command, "-t,--threads", flags->n_threads, "threads (0: one per core)");
  command->add_flag("-v,--verbose", flags->verbose, "list the tensors");
  command->add_flag("--json", flags->json, "one JSON object instead of text");
  command->callback([flags, &exit_code] { exit_code = quantize(*flags); });
}

}  // namespace larder
