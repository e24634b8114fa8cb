// Asks what is hidden in a context, after the context was cached.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "larder/engine.h"
#include "retrieval_task.h"

namespace larder {

/// Share of the answers that the reply gives, 0..1. A single answer must be what the reply begins
/// with, blanks aside; of several each must be in it. Both as whole words.
double reply_score(std::string_view reply, const std::vector<std::string>& answers);

struct TaskScore {
  bool right = false;                    // every answer to every question
  double recall = 0;                     // share of the answers that were given
  std::uint64_t n_rows = 0, n_kept = 0;  // of contexts that questions needed, and found cached
};

/// Where a question stands when rows of the context are dropped.
enum class Asked : std::uint8_t {
  behind_cache,   // nowhere yet: it comes behind a cache that is kept
  within_prompt,  // behind the context, in one prompt
};
inline constexpr std::array kAskedNames = {"hidden", "visible"};  // the question, from the policy
inline std::string_view asked_name(Asked asked) {
  return kAskedNames[static_cast<std::size_t>(asked)];
}
/// Errors: invalid_argument, with the names there are.
Result<Asked> parse_asked(std::string_view name);

/// Greedily: caches the context as a request of its own, then asks each question behind it; or
/// asks each in a request with the whole context. REQUIRES: as cache_context. Errors: unavailable
/// (Ctrl-C), the engine's.
Result<TaskScore> run_retrieval_task(Engine& engine, const RetrievalTask& task,
                                     Asked asked = Asked::behind_cache);

struct RetrievalPlan {
  std::vector<TaskKind> tasks;
  std::vector<std::uint32_t> lengths;  // tokens, question and reply included
  std::vector<double> depths;          // 0..1; empty: random
  std::uint32_t n_samples = 20;        // of each combination
  std::uint64_t seed = 1;
  Asked asked = Asked::behind_cache;
};

/// One combination of the plan.
struct RetrievalCell {
  TaskKind task = TaskKind::passkey;
  std::uint32_t n_tokens = 0;
  std::optional<double> depth;  // empty: random
  std::uint32_t n_samples = 0, n_right = 0;
  double recall = 0;  // mean
  std::uint64_t n_rows = 0, n_kept = 0;
};

/// Called with the samples done.
using RetrievalProgress = std::function<void(std::uint64_t n_done)>;

/// Cells by task, then length, then depth. Errors: invalid_argument (a length that the engine's
/// context or the task does not fit), unavailable (Ctrl-C), the engine's.
Result<std::vector<RetrievalCell>> measure_retrieval(Engine& engine, const TaskMaker& maker,
                                                     const RetrievalPlan& plan,
                                                     const RetrievalProgress& progress);

/// Samples of all cells.
std::uint64_t n_plan_samples(const RetrievalPlan& plan);

}  // namespace larder
