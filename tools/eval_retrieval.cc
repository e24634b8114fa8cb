#include "eval_retrieval.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>

#include "base/fail.h"
#include "cached_context.h"
#include "engine_flags.h"
#include "failure.h"
#include "flag_values.h"
#include "json_output.h"
#include "model/config.h"
#include "model/io/model_source.h"
#include "model/io/output_file.h"
#include "open_engine.h"
#include "retrieval_report.h"
#include "table.h"
#include "terminal.h"
#include "text_input.h"

namespace larder {
namespace {

constexpr std::uint32_t kMaxLength = 1U << 24, kMaxSamples = 100000;

struct RetrievalFlags {
  std::string command;  // "passkey", "needle", "ruler"
  EngineOptions engine;
  RetrievalPlan plan;
  std::vector<std::uint32_t> depths;  // percent
  std::string filler_path, svg_path;
  bool json = false;
};

Result<void> check(const RetrievalFlags& flags) {
  for (const std::uint32_t depth : flags.depths) {
    if (depth > 100) {
      return fail(Errc::invalid_argument, "--depths has {}, percents are 0 to 100", depth);
    }
  }
  for (const std::uint32_t n : flags.plan.lengths) {
    if (n == 0 || n > kMaxLength) {
      return fail(Errc::invalid_argument, "--lengths has {}, must be 1 to {}", n, kMaxLength);
    }
  }
  const std::uint32_t n_samples = flags.plan.n_samples;
  if (n_samples == 0 || n_samples > kMaxSamples) {
    return fail(Errc::invalid_argument, "--samples is {}, must be 1 to {}", n_samples, kMaxSamples);
  }
  return {};
}

/// 256 (RULER's lists need more: 512) and its doubles as far as the model was trained, at most
/// 4096.
std::vector<std::uint32_t> default_lengths(const ModelConfig& config, bool has_lists) {
  constexpr std::uint32_t kLeast = 256, kMost = 4096;
  std::vector<std::uint32_t> lengths;
  for (std::uint32_t n = has_lists ? 2 * kLeast : kLeast;
       n <= std::min(config.n_context_train, kMost); n *= 2) {
    lengths.push_back(n);
  }
  if (lengths.empty()) lengths.push_back(config.n_context_train);
  return lengths;
}

Result<std::unique_ptr<Engine>> open_for(RetrievalFlags& flags) {
  LARDER_ASSIGN(auto source, open_model(flags.engine.model_path));
  RetrievalPlan& plan = flags.plan;
  if (plan.lengths.empty())
    plan.lengths = default_lengths(source->config(), flags.command == "ruler");
  const std::uint32_t longest = *std::max_element(plan.lengths.begin(), plan.lengths.end());
  if (flags.engine.n_context == 0) {
    flags.engine.n_context = context_with_room(flags.engine, longest);
  }
  if (flags.engine.n_context < longest) {
    return fail(Errc::invalid_argument, "--lengths has {}, ctx-size is {}", longest,
                flags.engine.n_context);
  }
  flags.engine.n_sequences = sequences_with_room(flags.engine);
  return Engine::open(std::move(source), flags.engine);
}

nlohmann::ordered_json as_json(const RetrievalFlags& flags, const Engine& engine,
                               std::span<const RetrievalCell> cells) {
  return {{"model", engine.config().name},
          {"model_path", flags.engine.model_path},
          {"measure", flags.command},
          {"seed", flags.plan.seed},
          {"filler", flags.filler_path},
          {"question", asked_name(flags.plan.asked)},
          {"cells", cells_json(cells)},
          {"all", cells_json(std::vector{total_of(cells)}).front()},
          {"kv_bytes_per_token", engine.kv_bytes_per_token()},
          {"engine", engine.description()}};
}

std::string as_text(const RetrievalFlags& flags, const Engine& engine,
                    std::span<const RetrievalCell> cells) {
  const RetrievalCell total = total_of(cells);
  return (flags.command == "ruler" ? task_table(cells) : depth_table(cells)) + "\n" +
         fact_list({{"all", fmt::format("{} of {} samples", share_text(total), total.n_samples)},
                    {"from the cache",
                     fmt::format("{} of {} rows of contexts", total.n_kept, total.n_rows)},
                    {"KV bytes per token", fmt::format("{}", engine.kv_bytes_per_token())},
                    {"engine", engine.description()}});
}

Result<void> write_picture(const RetrievalFlags& flags, const Engine& engine,
                           std::span<const RetrievalCell> cells) {
  const std::string& name =
      engine.config().name.empty() ? flags.engine.model_path : engine.config().name;
  const std::string svg = heat_map(
      cells, fmt::format("{}, {}: right answers, %", name,
                         flags.command == "needle" ? "one code in text" : "a pass key in text"));
  return write_file(flags.svg_path, svg);
}

Result<void> run(RetrievalFlags& flags) {
  LARDER_TRY(check_output_files({flags.svg_path}));
  LARDER_TRY(check(flags));
  LARDER_ASSIGN(const std::string filler_text, task_filler_text(flags.filler_path));
  LARDER_ASSIGN(const auto engine, open_for(flags));
  LARDER_ASSIGN(TaskFiller filler, TaskFiller::create(engine->tokenizer(), filler_text));
  const TaskMaker maker(engine->tokenizer(), std::move(filler));
  for (const std::uint32_t depth : flags.depths) flags.plan.depths.push_back(depth / 100.0);
  ProgressBar bar(flags.command);
  const InterruptGuard guard;
  const auto n_all = static_cast<double>(n_plan_samples(flags.plan));
  LARDER_ASSIGN(const std::vector<RetrievalCell> cells,
                measure_retrieval(*engine, maker, flags.plan, [&](std::uint64_t n_done) {
                  bar.update(static_cast<double>(n_done) / n_all);
                }));
  bar.finish();
  if (!flags.svg_path.empty()) LARDER_TRY(write_picture(flags, *engine, cells));
  if (flags.json) {
    print_json(as_json(flags, *engine, cells));
  } else {
    std::fputs(as_text(flags, *engine, cells).c_str(), stdout);
  }
  return {};
}

CLI::App* add_command(CLI::App& eval, const std::shared_ptr<RetrievalFlags>& flags,
                      const char* help, int& exit_code) {
  CLI::App* command = eval.add_subcommand(flags->command, help);
  add_counts(*command, "--lengths", flags->plan.lengths,
             "tokens of a task, question and reply included (none: up to the model's context)");
  add_number(*command, "--samples", flags->plan.n_samples, "tasks of each combination");
  add_number(*command, "--seed", flags->plan.seed, "another one gives other tasks");
  add_parsed(
      *command, "--question", parse_asked, [flags](Asked asked) { flags->plan.asked = asked; },
      "hidden: asked behind a cached context (default); visible: part of the prompt that is cached")
      ->type_name("NAME");
  command->add_option("--filler", flags->filler_path,
                      "UTF-8 text in which things are hidden (none: made-up sentences)");
  command->add_flag("--json", flags->json, "one JSON object instead of text");
  add_engine_flags(*command, flags->engine, {"parallel", "kv-keep-total"});
  command->callback([flags, &exit_code] {
    const auto outcome = run(*flags);
    exit_code = outcome ? kExitOk : report_failure(outcome.error());
  });
  return command;
}

}  // namespace

void add_eval_retrieval_commands(CLI::App& eval, int& exit_code) {
  auto flags = std::make_shared<RetrievalFlags>();  // each is owned by its command's callback
  flags->command = "passkey";
  flags->plan.tasks = {TaskKind::passkey};
  flags->depths = {0, 25, 50, 75, 100};
  CLI::App* command =
      add_command(eval, flags, "a number hidden in text, by length and depth", exit_code);
  add_counts(*command, "--depths", flags->depths, "percent of the text before the number");
  command->add_option("--svg", flags->svg_path, "picture to write: lengths and depths");

  flags = std::make_shared<RetrievalFlags>();
  flags->command = "needle";
  flags->plan.tasks = {TaskKind::niah_single};
  flags->plan.n_samples = 10;
  flags->depths = {0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100};
  command = add_command(eval, flags, "a grid of lengths and depths: the code of a word in text",
                        exit_code);
  add_counts(*command, "--depths", flags->depths, "percent of the text before the code");
  command->add_option("--svg", flags->svg_path, "picture to write: lengths and depths");

  flags = std::make_shared<RetrievalFlags>();
  flags->command = "ruler";
  for (std::size_t i = 1; i < kTaskNames.size(); ++i) {
    flags->plan.tasks.push_back(static_cast<TaskKind>(i));
  }
  command =
      add_command(eval, flags, "RULER's tasks: needles, variables, frequent words", exit_code);
  const auto parse = [](const std::string& text) -> Result<std::vector<TaskKind>> {
    LARDER_ASSIGN(const auto names, split_list(text));
    std::vector<TaskKind> tasks;
    for (const std::string& name : names) {
      LARDER_ASSIGN(const TaskKind task, parse_task(name));
      tasks.push_back(task);
    }
    return tasks;
  };
  add_parsed(
      *command, "--tasks", parse,
      [flags](std::vector<TaskKind> tasks) { flags->plan.tasks = std::move(tasks); },
      fmt::format("of these: {}", fmt::join(kTaskNames, ", ")))
      ->type_name("NAME,...");
}

}  // namespace larder
