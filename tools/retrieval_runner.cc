#include "retrieval_runner.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cmath>

#include "base/fail.h"
#include "cached_context.h"

namespace larder {
namespace {

bool is_word_char(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }

bool ends_word(std::string_view text, std::size_t at) {
  return at >= text.size() || !is_word_char(text[at]);
}

bool begins_with_answer(std::string_view reply, std::string_view answer) {
  const std::size_t begin = std::min(reply.find_first_not_of(" \n\t"), reply.size());
  reply.remove_prefix(begin);
  return reply.starts_with(answer) && ends_word(reply, answer.size());
}

bool holds_answer(std::string_view reply, std::string_view answer) {
  for (std::size_t at = 0; (at = reply.find(answer, at)) != std::string_view::npos; ++at) {
    const bool begins = at == 0 || !is_word_char(reply[at - 1]);
    if (begins && ends_word(reply, at + answer.size())) return true;
  }
  return false;
}

Result<RetrievalCell> measure_cell(Engine& engine, const TaskMaker& maker,
                                   const RetrievalPlan& plan, RetrievalCell cell,
                                   const std::function<void(std::uint32_t)>& progress) {
  const auto depth_seed =
      static_cast<std::uint64_t>(std::lround(1000 * cell.depth.value_or(-1) + 1000));
  for (std::uint32_t i = 0; i < plan.n_samples; ++i) {
    TaskRandom random(
        {plan.seed, static_cast<std::uint64_t>(cell.task), cell.n_tokens, depth_seed, i});
    LARDER_ASSIGN(const RetrievalTask task,
                  maker.make(cell.task, {cell.n_tokens, cell.depth}, random));
    LARDER_ASSIGN(const TaskScore score, run_retrieval_task(engine, task, plan.asked));
    ++cell.n_samples;
    cell.n_right += score.right ? 1 : 0;
    cell.recall += score.recall;
    cell.n_rows += score.n_rows;
    cell.n_kept += score.n_kept;
    progress(i + 1);
  }
  cell.recall /= plan.n_samples;
  return cell;
}

}  // namespace

double reply_score(std::string_view reply, const std::vector<std::string>& answers) {
  if (answers.size() == 1) return begins_with_answer(reply, answers.front()) ? 1 : 0;
  const auto n = std::count_if(answers.begin(), answers.end(), [&](const std::string& answer) {
    return holds_answer(reply, answer);
  });
  return static_cast<double>(n) / static_cast<double>(std::max<std::size_t>(1, answers.size()));
}

Result<Asked> parse_asked(std::string_view name) {
  for (std::size_t i = 0; i < kAskedNames.size(); ++i) {
    if (name == kAskedNames[i]) return static_cast<Asked>(i);
  }
  return fail(Errc::invalid_argument, "'{}' is no place of a question: {}", name,
              fmt::join(kAskedNames, ", "));
}

Result<TaskScore> run_retrieval_task(Engine& engine, const RetrievalTask& task, Asked asked) {
  CachedContext context;
  if (asked == Asked::behind_cache) {
    LARDER_ASSIGN(context, cache_context(engine, task.context));
  }
  TaskScore score;
  for (const TaskQuestion& question : task.questions) {
    Request request;
    request.prompt = task.context;
    request.prompt.insert(request.prompt.end(), question.tokens.begin(), question.tokens.end());
    request.max_tokens = task.n_answer_tokens;
    request.sampling.temperature = 0;
    request.reuse = context.id;
    if (context.id != 0) {
      request.n_read_in_full = static_cast<std::uint32_t>(task.context.size());
    }
    LARDER_ASSIGN([[maybe_unused]] const RequestId id, engine.submit(std::move(request)));
    std::string reply;
    std::uint32_t n_kept = 0;
    LARDER_TRY(run_until_idle(engine, [&](const TokenEvent& event) {
      reply += event.text;
      n_kept = std::max(n_kept, event.n_reused_tokens);
    }));
    score.recall +=
        reply_score(reply, question.answers) / static_cast<double>(task.questions.size());
    score.n_rows += task.context.size();
    score.n_kept += n_kept;
  }
  if (context.id != 0) engine.release(context.id);
  score.right = score.recall > 1 - 1e-9;
  return score;
}

Result<std::vector<RetrievalCell>> measure_retrieval(Engine& engine, const TaskMaker& maker,
                                                     const RetrievalPlan& plan,
                                                     const RetrievalProgress& progress) {
  std::vector<RetrievalCell> cells;
  std::vector<std::optional<double>> depths(plan.depths.begin(), plan.depths.end());
  if (depths.empty()) depths.emplace_back();
  for (const TaskKind task : plan.tasks) {
    for (const std::uint32_t n_tokens : plan.lengths) {
      for (const auto& depth : depths) {
        RetrievalCell cell;
        cell.task = task;
        cell.n_tokens = n_tokens;
        cell.depth = depth;
        const std::uint64_t n_before = cells.size() * std::uint64_t{plan.n_samples};
        LARDER_ASSIGN(cell, measure_cell(engine, maker, plan, cell, [&](std::uint32_t n_done) {
                        progress(n_before + n_done);
                      }));
        cells.push_back(cell);
      }
    }
  }
  return cells;
}

std::uint64_t n_plan_samples(const RetrievalPlan& plan) {
  return std::uint64_t{plan.n_samples} * plan.tasks.size() * plan.lengths.size() *
         std::max<std::size_t>(1, plan.depths.size());
}

}  // namespace larder
