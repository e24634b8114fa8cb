#include "sweep.h"

#include <algorithm>
#include <utility>

#include "base/fail.h"
#include "bench_runner.h"
#include "cached_context.h"
#include "divergence.h"
#include "model/config.h"
#include "model/io/model_source.h"
#include "model_fingerprint.h"

namespace larder {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::uint32_t kPrompt = 512, kGenerated = 32;  // of a measurement of speed
const std::vector<double> kPasskeyDepths = {0, 0.25, 0.5, 0.75, 1};

Json kl_key(const SweepPlan& plan, std::uint32_t context) {
  return {{"measure", "kl"},
          {"context", context},
          {"continuation", plan.continuation.n_continuation},
          {"windows", plan.continuation.n_windows},
          {"text", text_fingerprint(plan.text)},
          {"reference", result_options(plan.reference)}};
}

Json passkey_key(const SweepPlan& plan, std::uint32_t length) {
  return {
      {"measure", "passkey"}, {"tokens", length}, {"samples", plan.n_samples}, {"seed", plan.seed}};
}

Json task_key(const SweepPlan& plan, const SweepCell& cell) {
  return {{"measure", task_name(cell.task)},
          {"question", asked_name(cell.asked)},
          {"tokens", cell.size},
          {"samples", plan.n_samples},
          {"seed", plan.seed}};
}

Json speed_key(const SweepPlan& plan, std::uint32_t depth) {
  return {{"measure", "speed"},
          {"depth", depth},
          {"prompt", kPrompt},
          {"generated", kGenerated},
          {"repetitions", plan.n_repetitions}};
}

std::uint32_t longest(const std::vector<std::uint32_t>& sizes) {
  return sizes.empty() ? 0 : *std::max_element(sizes.begin(), sizes.end());
}

std::vector<SweepCell> task_cells(const SweepPlan& plan, std::size_t config) {
  std::vector<SweepCell> cells;
  for (const std::uint32_t length : plan.task_lengths) {
    for (const TaskKind task : plan.tasks) {
      for (const Asked asked : plan.questions) {
        cells.push_back({.config = config,
                         .measure = SweepMeasure::task,
                         .size = length,
                         .task = task,
                         .asked = asked});
      }
    }
  }
  return cells;
}

/// Pass keys of a length at each depth.
RetrievalPlan passkey_plan(const SweepPlan& plan, std::uint32_t length) {
  RetrievalPlan tasks;
  tasks.tasks = {TaskKind::passkey};
  tasks.lengths = {length};
  tasks.depths = kPasskeyDepths;
  const auto n_depths = static_cast<std::uint32_t>(kPasskeyDepths.size());
  tasks.n_samples = std::max(1U, plan.n_samples / n_depths);
  tasks.seed = plan.seed;
  return tasks;
}

}  // namespace

double kv_elements(const ModelConfig& c) {
  const double of_layer = c.has_latent()
                              ? c.latent.row_dim()
                              : static_cast<double>(c.n_kv_heads) * (c.head_dim + c.value_dim());
  return of_layer * c.n_owners();
}

std::string task_text(TaskKind task, Asked asked) {
  return fmt::format("{}, {}", task_name(task), asked_name(asked));
}

Result<std::vector<SweepCell>> sweep_cells(const SweepPlan& plan) {
  LARDER_ASSIGN(const auto source, open_model(plan.reference.model_path));
  const std::string model = model_fingerprint(*source);
  std::vector<SweepCell> cells;
  for (std::size_t i = 0; i < plan.configs.size(); ++i) {
    const auto finish = [&](SweepCell cell, Json key, double cost) {
      key["model"] = model;
      key["options"] = result_options(plan.configs[i].options);
      cell.key = std::move(key);
      cell.cost = cost;
      cells.push_back(std::move(cell));
    };
    const auto add = [&](SweepMeasure measure, std::uint32_t size, Json key, double cost) {
      finish({.config = i, .measure = measure, .size = size}, std::move(key), cost);
    };
    for (const std::uint32_t context : plan.contexts) {
      const double n_tokens = context + plan.continuation.n_continuation;
      add(SweepMeasure::kl, context, kl_key(plan, context),
          2 * n_tokens * plan.continuation.n_windows);
    }
    for (const std::uint32_t length : plan.passkey_lengths) {
      add(SweepMeasure::passkey, length, passkey_key(plan, length),
          static_cast<double>(length) * plan.n_samples);
    }
    for (SweepCell& cell : task_cells(plan, i)) {
      Json key = task_key(plan, cell);
      const double n_questions = cell.task == TaskKind::niah_multiquery ? 4 : 1;
      const double n_runs = cell.asked == Asked::within_prompt ? n_questions : 1;
      const double cost = n_runs * cell.size * plan.n_samples;
      finish(std::move(cell), std::move(key), cost);
    }
    for (const std::uint32_t depth : plan.speed_depths) {
      add(SweepMeasure::speed, depth, speed_key(plan, depth),
          (plan.n_repetitions + 1) * (2.0 * kPrompt + depth / 4.0));
    }
  }
  return cells;
}

Result<Json> SweepRunner::run(const SweepCell& cell, const std::function<void(double)>& progress) {
  switch (cell.measure) {
    case SweepMeasure::kl:
      return kl(cell, progress);
    case SweepMeasure::passkey:
      return passkey(cell, progress);
    case SweepMeasure::task:
      return task(cell, progress);
    case SweepMeasure::speed:
      return speed(cell, progress);
  }
  return fail(Errc::invalid_argument, "no such measure");
}

Result<void> SweepRunner::open(EngineOptions options) {
  options.n_sequences = sequences_with_room(options);
  std::string wanted = fmt::format("{} {}", options.n_context, result_options(options));
  if (model_ && model_options_ == wanted) return {};
  model_.reset();  // two at once may not fit the memory
  LARDER_ASSIGN(model_, Engine::open(options));
  model_options_ = std::move(wanted);
  return {};
}

Result<Json> SweepRunner::kl(const SweepCell& cell, const std::function<void(double)>& progress) {
  const std::uint32_t n_tokens = longest(plan_->contexts) + plan_->continuation.n_continuation;
  const auto sized = [n_tokens](EngineOptions options, std::uint32_t n_vocab) {
    options.n_context = context_with_room(options, n_tokens);
    options.n_sequences = 1;
    options.n_batch = logit_bounded_batch(options.n_batch, n_vocab);
    return options;
  };
  if (!reference_) {
    LARDER_ASSIGN(auto source, open_model(plan_->reference.model_path));
    const EngineOptions options = sized(plan_->reference, source->config().n_vocab);
    LARDER_ASSIGN(reference_, Engine::open(std::move(source), options));
  }
  LARDER_TRY(open(sized(plan_->configs[cell.config].options, reference_->config().n_vocab)));
  ContinuationOptions options = plan_->continuation;
  options.n_context = cell.size;
  const auto heard = [&progress](double fraction, double /*mean*/) { progress(fraction); };
  LARDER_ASSIGN(const DivergenceResult r,
                measure_divergence(*model_, *reference_, plan_->text, options, heard));
  const auto bytes = static_cast<double>(model_->kv_bytes_per_token());
  return Json{{"kl_mean", r.mean},
              {"kl_median", r.median},
              {"kl_p99", r.p99},
              {"kl_max", r.max},
              {"top1_agreement", r.top1_agreement},
              {"perplexity", r.perplexity},
              {"reference_perplexity", r.reference_perplexity},
              {"scored_tokens", r.n_scored_tokens},
              {"cached_bytes_per_token", r.model_bytes_per_token},
              {"reference_cached_bytes_per_token", r.reference_bytes_per_token},
              {"kv_bytes_per_token", bytes},
              {"bits_per_element", 8 * bytes / kv_elements(model_->config())},
              {"engine", model_->description()}};
}

Result<Json> SweepRunner::passkey(const SweepCell& cell,
                                  const std::function<void(double)>& progress) {
  return retrieval(cell, passkey_plan(*plan_, cell.size), longest(plan_->passkey_lengths),
                   progress);
}

Result<Json> SweepRunner::task(const SweepCell& cell, const std::function<void(double)>& progress) {
  RetrievalPlan tasks;
  tasks.tasks = {cell.task};
  tasks.lengths = {cell.size};
  tasks.n_samples = plan_->n_samples;
  tasks.seed = plan_->seed;
  tasks.asked = cell.asked;
  return retrieval(cell, tasks, longest(plan_->task_lengths), progress);
}

Result<Json> SweepRunner::retrieval(const SweepCell& cell, const RetrievalPlan& tasks,
                                    std::uint32_t longest,
                                    const std::function<void(double)>& progress) {
  EngineOptions options = plan_->configs[cell.config].options;
  options.n_context = context_with_room(options, longest);
  LARDER_TRY(open(options));
  LARDER_ASSIGN(TaskFiller filler, TaskFiller::create(model_->tokenizer(), embedded_filler()));
  const TaskMaker maker(model_->tokenizer(), std::move(filler));
  const auto n_all = static_cast<double>(n_plan_samples(tasks));
  LARDER_ASSIGN(const auto cells,
                measure_retrieval(*model_, maker, tasks, [&](std::uint64_t n_done) {
                  progress(static_cast<double>(n_done) / n_all);
                }));
  std::uint32_t n_samples = 0, n_right = 0;
  double recall = 0;
  for (const RetrievalCell& one : cells) {
    n_samples += one.n_samples;
    n_right += one.n_right;
    recall += one.recall / static_cast<double>(cells.size());
  }
  return Json{{"samples", n_samples},
              {"right", n_right},
              {"recall", recall},
              {"engine", model_->description()}};
}

Result<Json> SweepRunner::speed(const SweepCell& cell,
                                const std::function<void(double)>& progress) {
  EngineOptions options = plan_->configs[cell.config].options;
  options.n_context = context_with_room(options, longest(plan_->speed_depths) + kPrompt + 1);
  LARDER_TRY(open(options));
  BenchCase one;
  one.engine = model_->options();
  one.depth = cell.size;
  one.quick_depth = true;
  std::uint32_t n_done = 0;
  const auto heard = [&](std::uint32_t) { progress(n_done++ / (2.0 * plan_->n_repetitions)); };
  one.n_prompt = kPrompt;
  LARDER_ASSIGN(const BenchResult prefill,
                run_bench_case(*model_, one, plan_->n_repetitions, heard));
  one.n_prompt = 0;
  one.n_gen = kGenerated;
  LARDER_ASSIGN(const BenchResult decode,
                run_bench_case(*model_, one, plan_->n_repetitions, heard));
  return Json{{"prefill", prefill.median_rate()},
              {"decode", decode.median_rate()},
              {"kv_peak_bytes", decode.kv_peak_bytes},
              {"engine", model_->description()}};
}

}  // namespace larder
