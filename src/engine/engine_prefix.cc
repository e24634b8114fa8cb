// What requests share: cached beginnings found, published, explained.
#include <algorithm>
#include <bit>
#include <span>
#include <string>
#include <utility>

#include "base/fail.h"
#include "engine/engine_impl.h"
#include "engine/row_forms.h"

namespace larder {
namespace {

constexpr std::size_t kMaxReports = 256;

std::string_view reason_name(PrefixEnd end) {
  switch (end) {
    case PrefixEnd::covered:
      return "covered";
    case PrefixEnd::new_salt:
      return "new_salt";
    case PrefixEnd::unseen:
      return "unseen";
    case PrefixEnd::differs:
      return "differs";
    case PrefixEnd::evicted:
      return "evicted";
    case PrefixEnd::dropped:
      return "dropped";
    case PrefixEnd::window:
      return "window";
    case PrefixEnd::sealed:
      return "sealed";
  }
  return "";
}

}  // namespace

PrefixKey Engine::Impl::prefix_key(const Sequence& sequence) const {
  const Request& r = sequence.request->request;
  return {sequence.tokens, plain_rows(source->config(), plan.reading, r), r.cache_salt};
}

PrefixKey Engine::Impl::prefix_key(std::span<const TokenId> tokens, std::string_view salt) const {
  return {tokens, plain_rows(source->config(), plan.reading, tokens.size()), salt};
}

PrefixMoment Engine::Impl::now(RequestId request) const {
  return {n_steps, age.seconds(), request};
}

bool Engine::Impl::make_room(const Sequence& needy) {
  if (prefixes && prefixes->evict(now(needy.request->id))) return true;
  if (compressed.release_oldest()) return true;
  return kept.release_oldest();
}

/// The sequence's own, as long as it goes on from no cache that dropped rows.
void Engine::Impl::set_evictions(Sequence& sequence) const {
  if (!sequence.policy().drops()) return;
  sequence.evictions = sequence.policy().evictor->points(
      static_cast<std::uint32_t>(sequence.request->request.prompt.size()));
  const std::uint32_t n_shareable = sequence.evictions.n_shareable();
  const std::uint32_t n = options.kv.block_tokens;
  sequence.n_to_share = prefixes && n_shareable != UINT32_MAX ? n_shareable / n * n : 0;
}

/// Before a sequence is admitted, perhaps not for the first time.
void Engine::Impl::share_rows(Sequence& sequence) {
  const Request& r = sequence.request->request;
  if (r.pooling == Pooling::mean) return;  // every row is wanted
  counters_.n_reused_tokens -= sequence.n_shared;
  if (!sequence.preempted) sequence.request->n_reused_tokens -= sequence.n_shared;
  sequence.n_shared = 0;
  if (!sequence.preempted) set_evictions(sequence);
  if (r.reuse != 0) {
    const PrefixKey key = prefix_key(sequence);
    std::span<const TokenId> tokens = key.tokens;
    // The row before the next token to be scored predicts it, so it must be computed.
    if (r.prompt_logprobs) tokens = tokens.first(sequence.request->n_prompt_scored);
    auto shared = kept.fork(r.reuse, {tokens, key.n_plain, sequence.evictions, sequence.policy()});
    // A preempted one keeps to its points. By now it may have drawn more of the kept tokens, up to
    // where a cache that dropped rows at other points can be continued.
    if (shared && (!sequence.preempted || shared->evictions == sequence.evictions)) {
      sequence.cache = std::move(shared->cache);
      sequence.evictions = shared->evictions;
      if (!shared->statistics.empty()) sequence.statistics = std::move(shared->statistics);
      count_shared(sequence, sequence.cache.n_rows());
    }
  }
  sequence.prefixes_seen = 0;
  share_more(sequence);
  begin_reread(sequence);
}

void Engine::Impl::share_more(Sequence& sequence) {
  const Request& r = sequence.request->request;
  if (!prefixes || computes_all_rows(r)) return;
  const std::uint64_t version = prefixes->version() + compressed.version() + 1;
  if (sequence.prefixes_seen == version) return;
  if (sequence.rereading) return;  // all that it could take over is there
  const bool first_look = sequence.prefixes_seen == 0;
  sequence.prefixes_seen = version;
  if (share_compressed(sequence)) return;
  const std::uint32_t n_rows = sequence.cache.n_rows();
  if (n_rows % options.kv.block_tokens != 0 || sequence.cache.has_dropped()) return;
  const PrefixKey key = prefix_key(sequence);
  // One token at least is computed: its logits are wanted. Nor are rows shared from which some
  // would have been dropped.
  const auto max_rows = std::min(static_cast<std::uint32_t>(sequence.tokens.size() - 1),
                                 sequence.evictions.n_shareable());
  if (max_rows < n_rows) return;
  const PrefixMatch match = prefixes->find(key, max_rows);
  if (match.n_rows > n_rows) {
    prefixes->share(match, sequence.cache);
    count_shared(sequence, match.n_rows - n_rows);
  }
  if (first_look || match.n_rows > n_rows) report_prefix(sequence, match);
}

/// What others under the same policy have left behind places where rows went.
bool Engine::Impl::share_compressed(Sequence& sequence) {
  if (!sequence.policy().drops()) return false;
  const PrefixKey key = prefix_key(sequence);
  const std::uint32_t n_rows = sequence.cache.n_rows();
  auto found =
      compressed.find({key.tokens, key.n_plain, sequence.evictions, sequence.policy()}, key.salt);
  if (!found || found->cache.n_rows() <= n_rows) return false;
  sequence.cache = std::move(found->cache);
  if (!found->statistics.empty()) sequence.statistics = std::move(found->statistics);
  count_shared(sequence, sequence.cache.n_rows() - n_rows);
  PrefixMatch match;
  match.n_rows = sequence.cache.n_rows();
  if (match.n_rows + std::size_t{1} == sequence.tokens.size()) match.end = PrefixEnd::covered;
  report_prefix(sequence, match);
  return true;
}

/// Behind a place where rows went, while the prompt loads. Few of the places of a long prompt, for
/// each holds as many rows as a sequence: those whose numbers are powers of two, for others that
/// begin alike, and the last two, for others with another question. Or at the end of a text, if the
/// end of its prompt was no such place.
void Engine::Impl::leave_compressed(const Sequence& sequence) {
  if (!prefixes || sequence.sample != 0 || !sequence.cache.has_dropped()) return;
  const EvictionPoints& points = sequence.evictions;
  const std::uint32_t n_rows = sequence.cache.n_rows();
  const auto n_prompt = static_cast<std::uint32_t>(sequence.request->request.prompt.size());
  if (sequence.finish != FinishReason::none) {
    if (points.prompt_end != 0 || !sequence.statistics.empty()) return;
  } else {
    if (points.every == 0 || n_rows % points.every != 0 || n_rows >= n_prompt) return;
    if (points.prompt_end != 0 && n_rows >= points.prompt_end) return;
    const bool is_near_end = n_rows + std::uint64_t{2} * points.every >= n_prompt;
    if (!is_near_end && !std::has_single_bit(n_rows / points.every)) return;
  }
  const PrefixKey key = prefix_key(sequence);
  compressed.leave({sequence.request->policy,
                    {sequence.tokens.begin(), sequence.tokens.begin() + n_rows},
                    sequence.cache.fork(n_rows),
                    key.n_plain,
                    points,
                    sequence.statistics},
                   std::string(key.salt));
}

void Engine::Impl::count_shared(Sequence& sequence, std::uint32_t n_rows) {
  sequence.n_shared += n_rows;
  counters_.n_reused_tokens += n_rows;
  if (!sequence.preempted) sequence.request->n_reused_tokens += n_rows;
}

bool Engine::Impl::is_underway(const Sequence& sequence, const StepPlan& step_plan) const {
  if (!prefixes || computes_all_rows(sequence.request->request)) return false;
  const PrefixKey key = prefix_key(sequence);
  for (const PlannedRows& planned : step_plan.rows) {
    const Sequence& other = *planned.sequence;
    if (planned.n_rows < options.kv.block_tokens || &other == &sequence) continue;
    if (planned.rereads) continue;
    const PrefixKey theirs = prefix_key(other);
    if (theirs.salt != key.salt) continue;
    const std::uint32_t n_before = other.cache.n_rows();
    if (other.cache.has_dropped() || planned.n_rows == other.n_to_eviction()) continue;
    const auto differ = std::mismatch(key.tokens.begin(), key.tokens.end() - 1,
                                      theirs.tokens.begin(), theirs.tokens.end());
    std::uint32_t n = static_cast<std::uint32_t>(differ.first - key.tokens.begin());
    n = std::min({n, n_before + planned.n_rows, sequence.evictions.n_shareable()}) /
        options.kv.block_tokens * options.kv.block_tokens;
    const bool same_form = std::min(key.n_plain, n) == std::min(theirs.n_plain, n);
    if (same_form && n > std::max(n_before, sequence.cache.n_rows())) return true;
  }
  return false;
}

/// Rows that dropped others are a sequence's own, and so are those that nobody may take over.
bool Engine::Impl::leaves_rows(const Sequence& sequence) const {
  return prefixes && !sequence.cache.has_dropped() && sequence.evictions.n_shareable() > 0;
}

/// After `n_new` rows were committed.
void Engine::Impl::publish_rows(Sequence& sequence, std::uint32_t n_new) {
  if (!leaves_rows(sequence)) return;
  const std::uint32_t n = options.kv.block_tokens;
  const std::uint32_t n_rows = sequence.cache.n_rows();
  if (n_rows / n > (n_rows - n_new) / n) {
    prefixes->publish(prefix_key(sequence), sequence.cache, false);
  }
}

/// Whether all is cached that requests like this one leave to each other.
bool Engine::Impl::ends_by_policy(const Sequence& sequence, const PrefixMatch& match) const {
  const std::uint32_t n_shareable = sequence.evictions.n_shareable();
  const bool is_found_out = match.end != PrefixEnd::covered && match.end != PrefixEnd::unseen &&
                            match.end != PrefixEnd::new_salt;
  return !is_found_out && std::size_t{n_shareable} + 1 < sequence.tokens.size() &&
         match.n_rows + options.kv.block_tokens > n_shareable;
}

void Engine::Impl::report_prefix(const Sequence& sequence, const PrefixMatch& match) {
  const RequestState& request = *sequence.request;
  if (sequence.sample != 0 || sequence.preempted) return;
  PrefixReport report;
  report.request = request.id;
  report.n_prompt_tokens = static_cast<std::uint32_t>(request.request.prompt.size());
  report.n_cached_tokens = match.n_rows;
  report.reason = ends_by_policy(sequence, match) ? "policy" : reason_name(match.end);
  if (report.reason != "covered") report.token = sequence.tokens[match.n_rows];
  if (match.end == PrefixEnd::differs) report.cached_token = match.cached_token;
  if (match.end == PrefixEnd::evicted || match.end == PrefixEnd::dropped) {
    report.gone =
        PrefixReport::Gone{match.gone.step, age.seconds() - match.gone.seconds, match.gone.request};
  }
  report.step = n_steps;
  report.format = format_name();
  report.policy = sequence.policy().text;
  if (!reports_.empty() && reports_.back().request == request.id) reports_.pop_back();
  reports_.push_back(std::move(report));
  if (reports_.size() > kMaxReports) reports_.pop_front();
}

/// What is left at its end, for who asks later.
void Engine::Impl::note_usage(const Sequence& sequence) {
  if (sequence.sample != 0) return;
  for (PrefixReport& report : reports_) {
    if (report.request == sequence.request->id) report.usage = sequence.usage();
  }
}

std::optional<PrefixReport> Engine::Impl::prefix_report(RequestId id) const {
  const auto it = std::find_if(reports_.rbegin(), reports_.rend(),
                               [id](const PrefixReport& r) { return r.request == id; });
  if (it == reports_.rend()) return std::nullopt;
  PrefixReport report = *it;
  scheduler.for_each([&](const Sequence& s, bool) {
    if (s.request->id == id && s.sample == 0) report.usage = s.usage();
  });
  return report;
}

Result<std::uint32_t> Engine::Impl::pin_prefix(std::span<const TokenId> tokens,
                                               std::string_view salt) {
  if (!prefixes) return 0U;
  const PrefixKey key = prefix_key(tokens, salt);
  const auto n_tokens = static_cast<std::uint32_t>(tokens.size());
  const std::uint32_t n_pinned = prefixes->pin(key, n_tokens);
  const std::size_t bytes = prefixes->pinned_bytes();
  if (bytes + plan.bytes_per_sequence > pool.budget_bytes()) {
    prefixes->unpin(key, n_tokens);
    return fail(
        Errc::invalid_argument,
        "pinning {} tokens would hold {} for good; a sequence of the full context takes {}, "
        "the budget is {}",
        n_pinned, format_bytes(bytes), format_bytes(plan.bytes_per_sequence),
        format_bytes(pool.budget_bytes()));
  }
  return n_pinned;
}

std::uint32_t Engine::Impl::unpin_prefix(std::span<const TokenId> tokens, std::string_view salt) {
  if (!prefixes) return 0;
  return prefixes->unpin(prefix_key(tokens, salt), static_cast<std::uint32_t>(tokens.size()));
}

std::size_t Engine::Impl::drop_prefix(std::span<const TokenId> tokens, std::string_view salt) {
  std::size_t n = compressed.drop(tokens, salt);
  if (prefixes) n += prefixes->drop(prefix_key(tokens, salt), now(0));
  give_memory_back();
  return n;
}

}  // namespace larder
