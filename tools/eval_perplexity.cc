#include "eval_perplexity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>

#include "continuation_report.h"
#include "engine_flags.h"
#include "failure.h"
#include "flag_values.h"
#include "json_output.h"
#include "model/config.h"
#include "open_engine.h"
#include "perplexity.h"
#include "table.h"
#include "terminal.h"
#include "text_input.h"

namespace larder {
namespace {

struct PerplexityFlags {
  EngineOptions engine;
  std::string text_path;
  PerplexityOptions measure;
  ContextFlags contexts;
  std::uint32_t n_parallel = 0;
  bool json = false;
};

/// Short windows alone would leave a step half empty.
std::uint32_t chosen_parallel(const PerplexityFlags& flags) {
  if (flags.n_parallel != 0) return flags.n_parallel;
  const std::uint32_t n_context = flags.engine.n_context;
  return n_context == 0 ? 1 : std::clamp(2 * flags.engine.n_batch / n_context, 1U, 16U);
}

std::string bos_text(const PerplexityResult& result) {
  return result.bos ? "before every window, as the model asks"
                    : "none, as the model asks; the first token of the text is not scored";
}

std::string as_text(const PerplexityResult& r, const PerplexityFlags& flags, const Engine& engine) {
  return fact_list({
      {"perplexity", fmt::format("{:.4f} +- {:.4f}", r.perplexity(), r.perplexity_error())},
      {"bits per token", fmt::format("{:.5f}", r.bits_per_token())},
      {"bits per byte", fmt::format("{:.5f}", r.bits_per_byte())},
      {"scored", fmt::format("{} of {} tokens, {} bytes", r.n_scored_tokens, r.n_text_tokens,
                             r.n_scored_bytes)},
      {"windows",
       fmt::format("{} of {} tokens, stride {}, {} at once", r.n_windows, flags.measure.n_context,
                   flags.measure.stride, flags.measure.n_parallel)},
      {"BOS", bos_text(r)},
      {"time", fmt::format("{:.1f} s, {:.0f} tokens scored per second", r.seconds,
                           static_cast<double>(r.n_scored_tokens) / r.seconds)},
      {"engine", engine.description()},
  });
}

nlohmann::ordered_json as_json(const PerplexityResult& r, const PerplexityFlags& flags,
                               const Engine& engine) {
  nlohmann::ordered_json json;
  json["model"] = engine.config().name;
  json["model_path"] = flags.engine.model_path;
  json["text"] = flags.text_path;
  json["perplexity"] = r.perplexity();
  json["perplexity_error"] = r.perplexity_error();
  json["bits_per_token"] = r.bits_per_token();
  json["bits_per_byte"] = r.bits_per_byte();
  json["scored_tokens"] = r.n_scored_tokens;
  json["scored_bytes"] = r.n_scored_bytes;
  json["text_tokens"] = r.n_text_tokens;
  json["windows"] = r.n_windows;
  json["context"] = flags.measure.n_context;
  json["stride"] = flags.measure.stride;
  json["parallel"] = flags.measure.n_parallel;
  json["bos"] = r.bos;
  json["seconds"] = r.seconds;
  json["kv_peak_bytes"] = engine.stats().kv_peak_bytes;
  json["engine"] = engine.description();
  return json;
}

Result<void> run_at_contexts(PerplexityFlags& flags, const std::string& text) {
  if (flags.measure.stride != 0 || flags.n_parallel != 0) {
    return fail(Errc::invalid_argument, "--stride and --parallel belong to sliding windows, {}",
                "with --contexts there are none");
  }
  LARDER_ASSIGN(flags.engine.n_context, context_for(flags.engine, flags.contexts));
  flags.contexts.each.max_tokens = flags.measure.max_tokens;
  LARDER_ASSIGN(const auto engine, open_engine(flags.engine));
  LARDER_ASSIGN(const auto results, measure_perplexity_at(*engine, text, flags.contexts));
  if (flags.json) {
    print_json({{"model", engine->config().name},
                {"model_path", flags.engine.model_path},
                {"text", flags.text_path},
                {"contexts", perplexity_list(results, flags.contexts)},
                {"engine", engine->description()}});
  } else {
    std::fputs(perplexity_table(results, flags.contexts).c_str(), stdout);
    std::fputs(("\n" + fact_list({{"engine", engine->description()}})).c_str(), stdout);
  }
  return {};
}

Result<void> run(PerplexityFlags& flags) {
  if (flags.engine.n_context == 1) {
    return fail(Errc::invalid_argument, "ctx-size is 1, must be at least 2: a token is scored {}",
                "from those before it");
  }
  LARDER_ASSIGN(const std::string text, read_text_file(flags.text_path, kMaxTextBytes));
  if (text.empty()) return fail(Errc::invalid_argument, "{}: the text is empty", flags.text_path);
  if (!flags.contexts.contexts.empty()) return run_at_contexts(flags, text);
  flags.engine.n_sequences = flags.measure.n_parallel = chosen_parallel(flags);
  LARDER_ASSIGN(const auto engine, open_engine(flags.engine));
  flags.measure.n_context = engine->options().n_context;
  if (flags.measure.stride == 0) flags.measure.stride = std::max(1U, flags.measure.n_context / 2);
  ProgressBar bar("perplexity");
  const InterruptGuard guard;
  LARDER_ASSIGN(
      const PerplexityResult result,
      measure_perplexity(*engine, text, flags.measure, [&bar](double fraction, double perplexity) {
        bar.update(fraction, fmt::format("ppl {:.3f}", perplexity));
      }));
  bar.finish();
  if (flags.json) {
    print_json(as_json(result, flags, *engine));
  } else {
    std::fputs(as_text(result, flags, *engine).c_str(), stdout);
  }
  return {};
}

}  // namespace

void add_eval_perplexity_command(CLI::App& eval, int& exit_code) {
  auto flags = std::make_shared<PerplexityFlags>();  // owned by the callback below
  CLI::App* command = eval.add_subcommand("perplexity", "perplexity and bits per byte of a text");
  command->add_option("FILE", flags->text_path, "UTF-8 text")->required();
  add_number(*command, "--stride", flags->measure.stride,
             "tokens by which the window moves (0: half the context)");
  add_number(*command, "--max-tokens", flags->measure.max_tokens, "tokens of the text (0: all)");
  add_number(*command, "--parallel,--max-num-seqs", flags->n_parallel,
             "windows at once (0: as fill a step; also -np)");
  add_context_flags(*command, flags->contexts);
  command->add_flag("--json", flags->json,
                    "JSON instead of text: one object, with --contexts a list of them");
  add_engine_flags(*command, flags->engine, {"parallel", "kv-keep-total"});
  command->callback([flags, &exit_code] {
    const auto outcome = run(*flags);
    exit_code = outcome ? kExitOk : report_failure(outcome.error());
  });
}

}  // namespace larder
