#include "eval_sweep.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/fail.h"
#include "engine_flags.h"
#include "failure.h"
#include "flag_values.h"
#include "json_output.h"
#include "model/config.h"
#include "model/io/model_source.h"
#include "model/io/output_file.h"
#include "sweep.h"
#include "sweep_report.h"
#include "sweep_run.h"
#include "text_input.h"

namespace larder {
namespace {

constexpr std::uint64_t kMaxConfigBytes = 1ULL << 20;
constexpr std::uint32_t kMaxSize = 1U << 24, kMaxSamples = 100000, kMaxRepetitions = 1000;

struct SweepFlags {
  SweepPlan plan;
  std::vector<std::string> configs;
  std::string config_path, text_path, store_path, svg_path, task_svg_path, report_path;
  bool json = false;
};

Result<void> check_sizes(const char* flag, const std::vector<std::uint32_t>& sizes,
                         std::uint32_t least) {
  for (const std::uint32_t size : sizes) {
    if (size >= least && size <= kMaxSize) continue;
    return fail(Errc::invalid_argument, "{} has {}, must be {} to {}", flag, size, least, kMaxSize);
  }
  return {};
}

Result<void> check(const SweepFlags& flags) {
  const SweepPlan& plan = flags.plan;
  LARDER_TRY(check_sizes("--contexts", plan.contexts, 2));
  LARDER_TRY(check_sizes("--passkey", plan.passkey_lengths, 1));
  LARDER_TRY(check_sizes("--task-lengths", plan.task_lengths, 1));
  if (plan.tasks.empty() != plan.task_lengths.empty()) {
    return fail(Errc::invalid_argument, "--tasks and --task-lengths go together");
  }
  LARDER_TRY(check_sizes("--speed", plan.speed_depths, 0));
  LARDER_TRY(check_sizes("--continuation", {plan.continuation.n_continuation}, 1));
  if (plan.n_samples == 0 || plan.n_samples > kMaxSamples) {
    return fail(Errc::invalid_argument, "--samples is {}, must be 1 to {}", plan.n_samples,
                kMaxSamples);
  }
  if (plan.n_repetitions == 0 || plan.n_repetitions > kMaxRepetitions) {
    return fail(Errc::invalid_argument, "--repetitions is {}, must be 1 to {}", plan.n_repetitions,
                kMaxRepetitions);
  }
  if (!plan.contexts.empty() && flags.text_path.empty()) {
    return fail(Errc::invalid_argument, "KL needs a text: give --text, or --no-kl");
  }
  return {};
}

Result<std::vector<std::string>> config_lines(const SweepFlags& flags) {
  std::vector<std::string> lines;
  if (!flags.config_path.empty()) {
    LARDER_ASSIGN(const std::string text, read_text_file(flags.config_path, kMaxConfigBytes));
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      lines.push_back(text.substr(begin, end - begin));
      begin = end + 1;
    }
  }
  lines.insert(lines.end(), flags.configs.begin(), flags.configs.end());
  return lines;
}

std::string picture_link(const SweepFlags& flags, const std::string& path, const char* words) {
  if (flags.report_path.empty() || path.empty()) return {};
  namespace fs = std::filesystem;
  const fs::path from = fs::absolute(flags.report_path).parent_path();
  return fmt::format("![{}]({})\n\n", words,
                     fs::absolute(path).lexically_relative(from).generic_string());
}

/// The table as Markdown, and what it is made of.
std::string report_text(const SweepFlags& flags, const std::string& model,
                        const std::vector<SweepRow>& rows) {
  std::string text = fmt::format("# Configurations of {}\n\n{}\n", model, sweep_table(rows));
  text += picture_link(flags, flags.svg_path, "memory against KL");
  if (const std::string tasks = sweep_task_table(rows); !tasks.empty()) {
    text += "## Answers found\n\n" + tasks + "\n" +
            picture_link(flags, flags.task_svg_path, "answers, question hidden and visible");
  }
  for (const SweepRow& row : rows) {
    text += fmt::format("- {}: {}{}\n", row.name,
                        row.flags.empty() ? "no flags" : fmt::format("`{}`", row.flags),
                        row.refusal.empty() ? "" : "; not measured: " + row.refusal);
  }
  const KvOptions& kv = flags.plan.reference.kv;
  const std::string formats = kv.layers.empty()
                                  ? fmt::format("keys in {} and values in {}", kv.type_k, kv.type_v)
                                  : fmt::format("`--kv-layers {}`", kv.layers);
  text += fmt::format(
      "\nKL in nats against the same model with {}, over {} tokens in at "
      "most {} places behind each context; bytes are those of the cached context, from the "
      "allocator; speeds are tokens per second of one sequence: 512 tokens of a prompt, and "
      "decoding, behind each depth.\n",
      formats, flags.plan.continuation.n_continuation, flags.plan.continuation.n_windows);
  return text;
}

Result<void> run(SweepFlags& flags) {
  LARDER_TRY(check(flags));
  LARDER_TRY(check_output_files({flags.svg_path, flags.task_svg_path, flags.report_path}));
  LARDER_ASSIGN(const std::vector<std::string> lines, config_lines(flags));
  LARDER_ASSIGN(flags.plan.configs, parse_sweep_configs(lines, flags.plan.reference));
  if (!flags.plan.contexts.empty()) {
    LARDER_ASSIGN(flags.plan.text, read_text_file(flags.text_path, kMaxTextBytes));
  }
  LARDER_ASSIGN(SweepStore store, SweepStore::open(flags.store_path));
  LARDER_ASSIGN(const std::vector<SweepRow> rows, run_sweep(flags.plan, store));
  LARDER_ASSIGN(const auto source, open_model(flags.plan.reference.model_path));
  const std::string model =
      source->config().name.empty() ? flags.plan.reference.model_path : source->config().name;
  if (!flags.svg_path.empty()) {
    const std::string title = model + ": lower and further left is better; area: speed of decoding";
    LARDER_TRY(write_file(flags.svg_path, pareto_chart(pareto_points(rows), title)));
  }
  if (!flags.task_svg_path.empty()) {
    const std::string title = model + ": answers found, mean of all tasks and lengths";
    LARDER_TRY(write_file(flags.task_svg_path, task_chart(task_bars(rows), title)));
  }
  const std::string text = report_text(flags, model, rows);
  if (!flags.report_path.empty()) LARDER_TRY(write_file(flags.report_path, text));
  if (flags.json) {
    print_json({{"model", model},
                {"model_path", flags.plan.reference.model_path},
                {"reference", result_options(flags.plan.reference)},
                {"configurations", sweep_json(rows)}});
  } else {
    std::fputs(text.c_str(), stdout);
  }
  return {};
}

/// "a,b" to the values that `parse` makes of the parts.
template <class T>
Result<std::vector<T>> parse_list(const std::string& text, Result<T> (*parse)(std::string_view)) {
  LARDER_ASSIGN(const auto names, split_list(text));
  std::vector<T> values;
  for (const std::string& name : names) {
    LARDER_ASSIGN(const T value, parse(name));
    values.push_back(value);
  }
  return values;
}

void add_measure_flags(CLI::App& app, SweepFlags& flags) {
  SweepPlan& plan = flags.plan;
  add_counts(app, "--contexts", plan.contexts, "lengths of context behind which KL is measured");
  app.add_flag_callback(
      "--no-kl", [&plan] { plan.contexts.clear(); }, "without KL");
  add_number(app, "--continuation", plan.continuation.n_continuation,
             "tokens that are scored behind a context");
  add_number(app, "--windows", plan.continuation.n_windows, "places of the text, at most");
  add_counts(app, "--passkey", plan.passkey_lengths, "lengths of pass-key tasks (none: none)");
  const auto parse_tasks = [](const std::string& text) { return parse_list(text, parse_task); };
  add_parsed(
      app, "--tasks", parse_tasks,
      [&plan](std::vector<TaskKind> tasks) { plan.tasks = std::move(tasks); },
      fmt::format("further tasks, of {}", fmt::join(kTaskNames, ", ")))
      ->type_name("NAME,...");
  add_counts(app, "--task-lengths", plan.task_lengths, "lengths of those tasks");
  const auto parse_places = [](const std::string& text) { return parse_list(text, parse_asked); };
  add_parsed(
      app, "--questions", parse_places,
      [&plan](std::vector<Asked> places) { plan.questions = std::move(places); },
      "hidden from what drops rows, visible to it, or both (default)")
      ->type_name("NAME,...");
  add_number(app, "--samples", plan.n_samples,
             "pass keys of each length, over five depths; and of each task");
  add_number(app, "--seed", plan.seed, "of the pass keys");
  add_counts(app, "--speed", plan.speed_depths, "depths at which speed is measured");
  app.add_flag_callback(
      "--no-speed", [&plan] { plan.speed_depths.clear(); }, "without speed");
  add_number(app, "-r,--repetitions", plan.n_repetitions, "measurements of each speed");
}

}  // namespace

void add_eval_sweep_command(CLI::App& eval, int& exit_code) {
  auto flags = std::make_shared<SweepFlags>();  // owned by the callback below
  CLI::App* command =
      eval.add_subcommand("sweep", "configurations side by side: memory, quality, speed");
  command
      ->add_option("--config", flags->configs, "\"NAME: FLAGS\", flags of the engine; repeatable")
      ->type_name("TEXT")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command->add_option("--configs", flags->config_path, "file with a configuration on each line");
  command->add_option("--text", flags->text_path, "UTF-8 text for KL");
  command->add_option("--results", flags->store_path,
                      "file of finished measurements: read first, then added to");
  command->add_option("--svg", flags->svg_path, "picture to write: memory against KL");
  command->add_option("--task-svg", flags->task_svg_path, "picture to write: answers found");
  command->add_option("--report", flags->report_path, "Markdown file to write");
  add_measure_flags(*command, *flags);
  command->add_flag("--json", flags->json, "one JSON object instead of text");
  add_engine_flags(*command, flags->plan.reference,
                   {"parallel", "ctx-size", "kv-keep-total", "kv-memory"});
  command->callback([flags, &exit_code] {
    const auto outcome = run(*flags);
    exit_code = outcome ? kExitOk : report_failure(outcome.error());
  });
}

}  // namespace larder
