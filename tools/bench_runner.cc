#include "bench_runner.h"

#include <algorithm>
#include <chrono>
#include <random>
#include <utility>

#include "base/fail.h"
#include "cached_context.h"
#include "model/config.h"
#include "model/latent_forms.h"
#include "policy/methods.h"

namespace larder {
namespace {

using Clock = std::chrono::steady_clock;

/// The sequences of a case: their tokens, and the caches of their depth.
struct Prefixes {
  std::vector<std::vector<std::int32_t>> tokens;  // [n_parallel][depth]
  std::vector<RequestId> kept;                    // [n_parallel]; 0: nothing kept (depth 0)
};

std::vector<std::int32_t> random_tokens(std::size_t n, std::uint32_t n_vocab,
                                        std::mt19937& random) {
  std::uniform_int_distribution<std::int32_t> draw(0, static_cast<std::int32_t>(n_vocab) - 1);
  std::vector<std::int32_t> tokens(n);
  for (std::int32_t& token : tokens) token = draw(random);
  return tokens;
}

Request greedy(std::vector<std::int32_t> prompt, std::uint32_t max_tokens) {
  Request request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  request.sampling.temperature = 0;
  request.ignore_eos = true;
  return request;
}

/// Under most policies rows stay or go by what they are, so all must be computed.
bool keeps_all_rows(const std::string& policy) {
  if (names_no_policy(policy)) return true;
  const auto parsed = parse_policy(policy);
  return parsed && parsed->reading != Reading::all;
}

/// Computes the rows of depth, or the first of them where the others are to repeat these.
Result<Prefixes> fill_depth(Engine& engine, const BenchCase& one, std::mt19937& random) {
  constexpr std::uint32_t kRepeated = 512;  // a whole number of blocks of any size
  const bool repeats = one.quick_depth && keeps_all_rows(one.engine.kv.policy);
  const std::uint32_t n_computed = repeats ? std::min(one.depth, kRepeated) : one.depth;
  Prefixes prefixes;
  for (std::uint32_t i = 0; i < one.n_parallel; ++i) {
    if (one.shared_prefix && i > 0) {
      prefixes.tokens.push_back(prefixes.tokens.front());
      prefixes.kept.push_back(prefixes.kept.front());
      continue;
    }
    prefixes.tokens.push_back(random_tokens(one.depth, engine.config().n_vocab, random));
    prefixes.kept.push_back(0);
    if (one.depth == 0) continue;
    const auto& tokens = prefixes.tokens.back();
    Request request = greedy({tokens.begin(), tokens.begin() + n_computed}, 1);
    request.keep_cache = true;
    LARDER_ASSIGN(prefixes.kept.back(), engine.submit(std::move(request)));
  }
  LARDER_TRY(run_until_idle(engine));
  if (n_computed == one.depth) return prefixes;
  const std::size_t n_caches = one.shared_prefix ? 1 : prefixes.kept.size();
  for (std::size_t i = 0; i < n_caches; ++i) {
    LARDER_TRY(engine.stretch_kept(prefixes.kept[i], prefixes.tokens[i]));
  }
  return prefixes;
}

/// Seconds that all sequences take together for `n_prompt` new tokens and `n_gen` generated ones.
Result<double> time_once(Engine& engine, const BenchCase& one, const Prefixes& prefixes,
                         std::mt19937& random) {
  const std::uint64_t n_reused_before = engine.stats().n_reused_tokens;
  for (std::uint32_t i = 0; i < one.n_parallel; ++i) {
    std::vector<std::int32_t> prompt = prefixes.tokens[i];
    const auto more = random_tokens(one.n_new_prompt(), engine.config().n_vocab, random);
    prompt.insert(prompt.end(), more.begin(), more.end());
    Request request = greedy(std::move(prompt), std::max(1U, one.n_gen));
    request.reuse = prefixes.kept[i];
    LARDER_TRY(engine.submit(std::move(request)));
  }
  const auto begin = Clock::now();
  LARDER_TRY(run_until_idle(engine));
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  const std::uint64_t n_reused = engine.stats().n_reused_tokens - n_reused_before;
  const std::uint64_t n_wanted = std::uint64_t{one.n_parallel} * one.depth;
  if (n_reused != n_wanted && engine.config().has_latent() && one.depth % kFormPanel != 0) {
    return fail(Errc::invalid_argument,
                "{}: {} of {} tokens of depth were reused; with latent attention a longer prompt "
                "shares whole panels of {} tokens: give such a depth",
                one.name(), n_reused, n_wanted, kFormPanel);
  }
  if (n_reused != n_wanted) {
    return fail(Errc::unavailable,
                "{}: {} of {} tokens of depth were still cached; give a larger --kv-memory",
                one.name(), n_reused, n_wanted);
  }
  return seconds;
}

/// Enough to touch weights, scratch and caches once; a long case needs no long warm-up.
BenchCase warm_up_case(const BenchCase& one) {
  BenchCase small = one;
  small.n_prompt = std::min(small.n_prompt, 512U);
  small.n_gen = std::min(small.n_gen, 8U);
  return small;
}

}  // namespace

std::vector<double> BenchResult::sorted_rates() const {
  std::vector<double> rates;
  for (const double s : seconds) rates.push_back(static_cast<double>(measured.n_counted()) / s);
  std::sort(rates.begin(), rates.end());
  return rates;
}

double BenchResult::median_rate() const {
  const std::vector<double> rates = sorted_rates();
  const std::size_t middle = rates.size() / 2;
  return rates.size() % 2 == 1 ? rates[middle] : (rates[middle - 1] + rates[middle]) / 2;
}

Result<BenchResult> run_bench_case(Engine& engine, const BenchCase& one,
                                   std::uint32_t n_repetitions, const BenchProgress& progress) {
  std::mt19937 random(12345);  // the same tokens for every engine and format
  LARDER_ASSIGN(const Prefixes prefixes, fill_depth(engine, one, random));
  LARDER_TRY(time_once(engine, warm_up_case(one), prefixes, random));
  BenchResult result;
  for (std::uint32_t i = 0; i < n_repetitions; ++i) {
    progress(i);
    LARDER_ASSIGN(const double seconds, time_once(engine, one, prefixes, random));
    result.seconds.push_back(seconds);
  }
  for (const RequestId id : prefixes.kept) {
    if (id != 0) engine.release(id);  // a shared one again and again: nothing then
  }
  const EngineOptions& resolved = engine.options();
  const std::string& name = engine.config().name;
  result.measured = one;
  result.model = name.empty() ? resolved.model_path : name;
  result.description = engine.description();
  result.n_threads = resolved.n_threads;
  result.kv_peak_bytes = engine.stats().kv_peak_bytes;
  result.kv_bytes_per_token = engine.kv_bytes_per_token();
  return result;
}

}  // namespace larder
