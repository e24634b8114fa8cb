#include "bench_cases.h"

#include <algorithm>

#include "base/fail.h"
#include "cached_context.h"

namespace larder {
namespace {

constexpr std::uint32_t kMaxTokens = 1U << 24;
constexpr std::uint32_t kMaxParallel = 1024;
constexpr std::uint32_t kMaxRepetitions = 1000;

Result<void> check_range(const char* flag, const std::vector<std::uint32_t>& values,
                         std::uint32_t least, std::uint32_t most) {
  for (const std::uint32_t value : values) {
    if (value < least || value > most) {
      return fail(Errc::invalid_argument, "{} is {}, must be {} to {}", flag, value, least, most);
    }
  }
  return {};
}

Result<void> check(const BenchFlags& flags) {
  LARDER_TRY(check_range("--n-prompt", flags.n_prompt, 0, kMaxTokens));
  LARDER_TRY(check_range("--n-gen", flags.n_gen, 0, kMaxTokens));
  LARDER_TRY(check_range("--n-depth", flags.depth, 0, kMaxTokens));
  LARDER_TRY(check_range("--batch", flags.n_parallel, 1, kMaxParallel));
  LARDER_TRY(check_range("--repetitions", {flags.n_repetitions}, 1, kMaxRepetitions));
  for (const auto& [n_prompt, n_gen] : flags.prompt_gen) {
    LARDER_TRY(check_range("--prompt-gen", {n_prompt, n_gen}, 1, kMaxTokens));
  }
  return {};
}

/// (prompt, generated) of each test, as llama-bench makes them from -p, -n and -pg.
std::vector<std::pair<std::uint32_t, std::uint32_t>> tests(const BenchFlags& flags) {
  std::vector<std::pair<std::uint32_t, std::uint32_t>> pairs;
  for (const std::uint32_t n : flags.n_prompt) {
    if (n > 0) pairs.emplace_back(n, 0);
  }
  for (const std::uint32_t n : flags.n_gen) {
    if (n > 0) pairs.emplace_back(0, n);
  }
  pairs.insert(pairs.end(), flags.prompt_gen.begin(), flags.prompt_gen.end());
  return pairs;
}

/// Tokens for which an engine of the tests at this depth is large enough: a kept prefix and its
/// continuation stand side by side and share all blocks but the last.
std::uint32_t context_for(const BenchFlags& flags, const BenchCase& one,
                          const std::vector<std::pair<std::uint32_t, std::uint32_t>>& pairs) {
  if (flags.engine.n_context != 0) return flags.engine.n_context;
  std::uint32_t longest = 0;
  for (const auto& [n_prompt, n_gen] : pairs) {
    longest = std::max(longest, std::max(n_prompt, 1U) + n_gen);
  }
  return one.depth + longest + 2 * flags.engine.kv.block_tokens;
}

Result<void> check_room(const BenchCase& one) {
  const std::uint64_t n_needed = std::uint64_t{one.depth} + one.n_new_prompt() + one.n_gen;
  if (n_needed <= one.engine.n_context) return {};
  return fail(Errc::invalid_argument, "{} needs {} tokens of context, --ctx-size is {}", one.name(),
              n_needed, one.engine.n_context);
}

}  // namespace

std::string BenchCase::name() const {
  std::string text;
  if (n_prompt > 0) text += fmt::format("pp{}", n_prompt);
  if (n_gen > 0) text += fmt::format("{}tg{}", n_prompt > 0 ? "+" : "", n_gen);
  if (depth > 0) text += fmt::format("@d{}", depth);
  if (n_parallel > 1) text += fmt::format(" x{}", n_parallel);
  if (shared_prefix && n_parallel > 1 && depth > 0) text += " shared";
  return text;
}

Result<std::vector<BenchCase>> bench_cases(const BenchFlags& flags) {
  LARDER_TRY(check(flags));
  std::vector<BenchCase> cases;
  BenchCase one;
  one.engine = flags.engine;
  one.shared_prefix = flags.shared_prefix;
  one.quick_depth = flags.quick_depth;
  const auto pairs = tests(flags);
  for (const std::uint32_t n_threads : flags.n_threads) {
    for (const std::string& type_k : flags.type_k) {
      for (const std::string& type_v : flags.type_v) {
        for (const std::uint32_t depth : flags.depth) {
          for (const std::uint32_t n_parallel : flags.n_parallel) {
            for (const auto& [n_prompt, n_gen] : pairs) {
              one.engine.n_threads = n_threads;
              one.engine.kv.type_k = type_k;
              one.engine.kv.type_v = type_v;
              one.depth = depth;
              one.n_parallel = n_parallel;
              one.n_prompt = n_prompt;
              one.n_gen = n_gen;
              one.engine.n_sequences = std::max(
                  n_parallel,
                  std::min(n_parallel * sequences_with_room(flags.engine), flags.engine.n_batch));
              one.engine.n_context = context_for(flags, one, pairs);
              LARDER_TRY(check_room(one));
              cases.push_back(one);
            }
          }
        }
      }
    }
  }
  if (cases.empty()) return fail(Errc::invalid_argument, "nothing to measure: no -p, -n or -pg");
  return cases;
}

}  // namespace larder
