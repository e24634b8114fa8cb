// larder convert: other file kinds to GGUF, and models to fewer KV heads or latent attention, with
// a report of the cost.
#include "model/io/convert.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/fail.h"
#include "base/thread_count.h"
#include "calibration.h"
#include "commands.h"
#include "divergence_report.h"
#include "failure.h"
#include "flag_values.h"
#include "json_output.h"
#include "progress.h"
#include "table.h"
#include "text_input.h"

namespace larder {
namespace {

struct ConvertFlags {
  ConvertOptions options;
  std::optional<std::uint32_t> n_kv_heads;
  bool align = false;
  bool latent = false;  // --mla
  ToLatent to_latent;
  CalibrationOptions calibration;
  std::string target;  // "gguf", "hf"; empty: by the output's form
  DivergenceFlags report;
  std::string reference;  // what the report compares with; empty: the input
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

Result<ConvertTarget> chosen_target(const ConvertFlags& flags) {
  if (flags.target == "gguf") return ConvertTarget::gguf;
  if (flags.target == "hf") return ConvertTarget::hf;
  if (!flags.target.empty()) {
    return fail(Errc::invalid_argument, "--to: '{}' is neither gguf nor hf", flags.target);
  }
  std::error_code ignored;
  const std::string& output = flags.options.output;
  const bool directory = output.ends_with('/') || std::filesystem::is_directory(output, ignored);
  return directory ? ConvertTarget::hf : ConvertTarget::gguf;
}

const std::string& reference_of(const ConvertFlags& flags) {
  return flags.reference.empty() ? flags.options.input : flags.reference;
}

/// What belongs together, before hours of work.
Result<ConvertOptions> settled(const ConvertFlags& flags) {
  ConvertOptions options = flags.options;
  options.n_threads = thread_count(flags.n_threads);
  LARDER_ASSIGN(options.target, chosen_target(flags));
  if (flags.n_kv_heads) options.pool = PoolHeads{*flags.n_kv_heads, flags.align};
  if (flags.align && !options.pool) {
    return fail(Errc::invalid_argument, "--align goes with --kv-heads");
  }
  if (flags.latent) options.latent = flags.to_latent;
  if (options.latent && options.pool) {
    return fail(Errc::invalid_argument, "--mla and --kv-heads exclude each other");
  }
  if (!flags.calibration.text_path.empty() && !flags.align && !flags.latent) {
    return fail(Errc::invalid_argument, "--calibrate goes with --align or --mla");
  }
  if (!options.changes_attention()) {
    if (options.target == ConvertTarget::hf) {
      return fail(Errc::invalid_argument, "{}: a Hugging Face directory is written with {} only",
                  options.output, "--kv-heads or --mla");
    }
    if (!flags.report.text_path.empty()) {
      return fail(Errc::invalid_argument,
                  "--report goes with --kv-heads or --mla; `larder eval kl` {}",
                  "compares any two models");
    }
  }
  const bool runs = !flags.report.text_path.empty() || !flags.calibration.text_path.empty();
  if (runs && options.input.ends_with(".bin") && flags.reference.empty()) {
    return fail(Errc::invalid_argument, "{}: cannot run; give its GGUF form as --reference",
                options.input);
  }
  for (const std::string& text : {flags.report.text_path, flags.calibration.text_path}) {
    if (!text.empty()) LARDER_TRY(check_text_file(text, kMaxTextBytes));
  }
  return options;
}

Result<DivergenceReport> measure(const ConvertFlags& flags, const ConvertOptions& options) {
  DivergenceFlags report = flags.report;
  report.model.n_threads = options.n_threads;
  report.reference = report.model;
  report.model.model_path = options.output;
  report.reference.model_path = reference_of(flags);
  return run_divergence(report);
}

Result<void> convert(const ConvertFlags& flags) {
  LARDER_ASSIGN(ConvertOptions options, settled(flags));
  InputMoments moments;
  if (!flags.calibration.text_path.empty()) {
    CalibrationOptions calibration = flags.calibration;
    calibration.engine.model_path = reference_of(flags);
    calibration.engine.n_threads = options.n_threads;
    calibration.engine.n_context = flags.report.model.n_context;
    LARDER_ASSIGN(moments, measure_input_moments(calibration));
    options.moments = &moments;
  }
  ProgressBar bar("convert");
  const auto report = convert_model(options, [&bar](std::string_view tensor, float done) {
    bar.update(done, std::string(tensor));
  });
  bar.finish();
  if (!report) return tl::unexpected<Error>(report.error());
  for (const std::string& warning : report->warnings) complain("warning: " + warning);
  std::optional<DivergenceReport> divergence;
  if (!flags.report.text_path.empty()) {
    LARDER_ASSIGN(divergence, measure(flags, options));
  }
  if (flags.json) {
    auto json = to_json(*report, options);
    if (divergence) json["report"] = divergence_json(*divergence);
    print_json(json);
    return {};
  }
  print_fallbacks(*report);
  fmt::print("{}: {}, {} tensors, {}, {:.2f} bits per weight\n", options.output, report->arch,
             report->n_tensors, show_bytes(static_cast<double>(report->weight_bytes)),
             bits_per_weight(*report));
  if (divergence) fmt::print("{}", divergence_text(*divergence, "before", "after"));
  return {};
}

void add_attention_flags(CLI::App& command, const std::shared_ptr<ConvertFlags>& flags) {
  add_number(command, "--kv-heads", flags->n_kv_heads,
             "KV heads to be left: neighbours are made into one")
      ->group("Attention");
  command
      .add_flag("--align", flags->align,
                "bring the heads of a group into agreement before they become one")
      ->group("Attention");
}

Result<RopeChoice> parse_choice(const std::string& text) {
  if (text == "high") return RopeChoice::high;
  if (text == "uniform") return RopeChoice::uniform;
  if (text == "norm") return RopeChoice::norm;
  if (text == "loss") return RopeChoice::loss;
  return fail(Errc::invalid_argument, "'{}' is none of high, uniform, norm, loss", text);
}

Result<LatentNorm> parse_norm(const std::string& text) {
  if (text == "rms") return LatentNorm::rms;
  if (text == "linear") return LatentNorm::linear;
  return fail(Errc::invalid_argument, "'{}' is none of rms, linear", text);
}

void add_calibration_flags(CLI::App& command, const std::shared_ptr<ConvertFlags>& flags) {
  CLI::Option* calibrate = command.add_option(
      "--calibrate", flags->calibration.text_path,
      "text that shows what attention reads; without it the norms' weights tell");
  calibrate->group("Attention");
  add_number(command, "--calibrate-tokens", flags->calibration.max_tokens, "tokens of that text")
      ->group("Attention")
      ->needs(calibrate);
}

void add_latent_flags(CLI::App& command, const std::shared_ptr<ConvertFlags>& flags) {
  CLI::Option* mla = command.add_flag(
      "--mla", flags->latent, "multi-head latent attention in DeepSeek-V2's form (deepseek2)");
  mla->group("Attention");
  const auto in_group = [mla](CLI::Option* option) { option->group("Attention")->needs(mla); };
  in_group(add_number(command, "--kv-latent", flags->to_latent.kv_rank,
                      "channels of the latent (0: the cache becomes half as large)"));
  in_group(add_number(command, "--rope-dim", flags->to_latent.rope_dim,
                      "channels that keep rope, shared by all heads (0: a head's)"));
  in_group(add_parsed(
      command, "--rope-pairs", parse_choice,
      [flags](RopeChoice choice) { flags->to_latent.choice = choice; },
      "which rotary pairs keep rope: high (frequencies), uniform, norm, loss (default: loss)"));
  in_group(add_parsed(
      command, "--latent-norm", parse_norm,
      [flags](LatentNorm norm) { flags->to_latent.norm = norm; },
      "norm behind the latent: rms (to be trained), linear (exact; f32, bf16) (default: rms)"));
}

void add_report_flags(CLI::App& command, const std::shared_ptr<ConvertFlags>& flags) {
  DivergenceFlags& report = flags->report;
  const auto in_group = [](CLI::Option* option) { option->group("Report"); };
  in_group(command.add_option("--report", report.text_path,
                              "text on which the result is compared with the input: "
                              "perplexity and KL divergence"));
  in_group(
      add_number(command, "--report-tokens", report.max_tokens, "tokens of the text (0: all)"));
  in_group(add_number(command, "-c,--ctx-size", report.model.n_context,
                      "tokens of a window, also of --calibrate (0: the model's context, at most "
                      "8192)"));
  in_group(command.add_option("--reference", flags->reference,
                              "model that stands for the input (a llama2.c file's GGUF form)"));
}

}  // namespace

void add_convert_command(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<ConvertFlags>();  // owned by the callback below
  ConvertOptions& options = flags->options;
  CLI::App* command =
      app.add_subcommand("convert",
                         "Hugging Face directory or llama2.c checkpoint to GGUF; with --kv-heads "
                         "or --mla, a model to one with a smaller cache");
  command
      ->add_option("INPUT", options.input,
                   "directory with config.json, llama2.c's .bin; GGUF with --kv-heads or --mla")
      ->required();
  command
      ->add_option("-o,--output,OUTPUT", options.output,
                   "GGUF file to write, or a new directory (then --to hf, or end it with /)")
      ->required();
  command->add_option("--to", flags->target, "gguf or hf (default: by the output)");
  add_parsed(
      *command, "--type,--outtype", parse_type, [flags](DType t) { flags->options.type = t; },
      "type of the matrices: f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k or q6_k "
      "(default: as in the input)")
      ->type_name("TYPE");
  command->add_option("--tokenizer", options.tokenizer, "llama2.c's tok*.bin");
  command->add_option("--name", options.name, "general.name of the model");
  command->add_option("--license", options.license, "general.license, an SPDX name");
  add_attention_flags(*command, flags);
  add_latent_flags(*command, flags);
  add_calibration_flags(*command, flags);
  add_report_flags(*command, flags);
  add_number(*command, "-t,--threads", flags->n_threads, "threads (0: one per core)");
  command->add_flag("--json", flags->json, "one JSON object instead of text");
  command->callback([flags, &exit_code] {
    const auto outcome = convert(*flags);
    exit_code = outcome ? kExitOk : report_failure(outcome.error());
  });
}

}  // namespace larder
