// Configurations of one model over measures of quality, memory and speed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "continuation.h"
#include "larder/engine.h"
#include "retrieval_runner.h"
#include "sweep_config.h"
#include "sweep_store.h"

namespace larder {

struct SweepPlan {
  EngineOptions reference;  // what every configuration's distributions are compared with
  std::vector<SweepConfig> configs;
  std::vector<std::uint32_t> contexts = {512, 2048};  // KL behind each
  ContinuationOptions continuation;                   // but for its n_context
  std::string text;                                   // for KL; may be empty without contexts
  std::vector<std::uint32_t> passkey_lengths;
  std::vector<TaskKind> tasks;              // of each of these lengths,
  std::vector<std::uint32_t> task_lengths;  // at random depths,
  std::vector<Asked> questions = {Asked::behind_cache, Asked::within_prompt};  // in these ways
  std::uint32_t n_samples = 20;  // pass keys of each length, over five depths; of each task
  std::uint64_t seed = 1;
  std::vector<std::uint32_t> speed_depths = {4096, 16384};
  std::uint32_t n_repetitions = 3;
};

enum class SweepMeasure : std::uint8_t { kl, passkey, task, speed };

/// One measurement of one configuration; `size` is a context, a length or a depth.
struct SweepCell {
  std::size_t config = 0;
  SweepMeasure measure = SweepMeasure::kl;
  std::uint32_t size = 0;
  TaskKind task = TaskKind::passkey;     // of that measure,
  Asked asked = Asked::behind_cache;     // asked so
  nlohmann::ordered_json key = nullptr;  // all that the result depends on: see SweepStore
  double cost = 0;                       // about how long it takes, in tokens computed
};

/// "niah_single, hidden".
std::string task_text(TaskKind task, Asked asked);

/// Cells by configuration: KL, pass keys, tasks, speed. Errors: those of opening the model.
Result<std::vector<SweepCell>> sweep_cells(const SweepPlan& plan);

/// Measures cells one after the other; engines stay open while the next cell can use them.
class SweepRunner {
 public:
  explicit SweepRunner(const SweepPlan& plan) : plan_(&plan) {}

  /// kl: kl_mean, kl_median, kl_p99, kl_max, top1_agreement, perplexity, reference_perplexity,
  /// scored_tokens; cached_bytes_per_token as the allocator counts them, kv_bytes_per_token of full
  /// blocks, bits_per_element of those. passkey: samples, right. task: the same, recall. speed:
  /// prefill and decode, tokens per second. All: engine. Errors: those of the measures. `fraction`
  /// of the cell is told.
  Result<nlohmann::ordered_json> run(const SweepCell& cell,
                                     const std::function<void(double)>& progress);

 private:
  Result<nlohmann::ordered_json> kl(const SweepCell& cell,
                                    const std::function<void(double)>& progress);
  Result<nlohmann::ordered_json> passkey(const SweepCell& cell,
                                         const std::function<void(double)>& progress);
  Result<nlohmann::ordered_json> task(const SweepCell& cell,
                                      const std::function<void(double)>& progress);
  Result<nlohmann::ordered_json> retrieval(const SweepCell& cell, const RetrievalPlan& tasks,
                                           std::uint32_t longest,
                                           const std::function<void(double)>& progress);
  Result<nlohmann::ordered_json> speed(const SweepCell& cell,
                                       const std::function<void(double)>& progress);
  /// `model_` with these options: the one that is open where it fits.
  Result<void> open(EngineOptions options);

  const SweepPlan* plan_;
  std::unique_ptr<Engine> reference_, model_;
  std::string model_options_;  // that `model_` was opened with
};

/// Elements of K and V that one token adds to the caches of all layers.
double kv_elements(const ModelConfig& config);

}  // namespace larder
