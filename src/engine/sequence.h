// One continuation of one request, from its prompt to its last token.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/cache_statistics.h"
#include "engine/eviction_points.h"
#include "engine/rereading.h"
#include "engine/sampler.h"
#include "engine/sequence_policy.h"
#include "engine/stop_matcher.h"
#include "grammar/grammar.h"
#include "kv/sequence_cache.h"
#include "larder/engine.h"
#include "model/text/tokenizer.h"

namespace larder {

/// What the samples of a request have in common. Owners: the sequences of the request.
struct RequestState {
  RequestId id = 0;
  Request request;
  std::shared_ptr<SequencePolicy> policy;  // outlives the sequences' caches
  /// The prompt token whose log-probability is reported next; the first has none.
  std::uint32_t n_prompt_scored = 1;
  std::uint32_t n_reused_tokens = 0;  // of the prompt, found in the cache before it was first run
};

/// Whether what the prefix tree holds is of no use to the request.
inline bool computes_all_rows(const Request& request) {
  return request.prompt_logprobs || request.pooling == Pooling::mean;
}

/// A sequence needs its rows [cache.n_rows(), tokens.size()) computed; when the last of them is,
/// the next token is drawn. A new prompt, a decoding sequence and a preempted one that starts over
/// differ in nothing but the number of those rows.
struct Sequence {
  Sequence(std::shared_ptr<RequestState> state, std::uint32_t sample_index, SequenceCache rows,
           const Tokenizer& tokenizer, std::uint32_t n_vocab)
      : request(std::move(state)),
        sample(sample_index),
        tokens(request->request.prompt),
        cache(std::move(rows)),
        sampler(request->request.sampling, sample_index, n_vocab),
        decoder(tokenizer),
        stops(request->request.stop) {
    if (request->request.grammar) matcher.emplace(request->request.grammar);
  }

  std::uint32_t n_missing() const {
    return rereading ? rereading->n_left(cache)
                     : static_cast<std::uint32_t>(tokens.size()) - cache.n_rows();
  }
  /// Tokens of the missing rows.
  const TokenId* next_tokens() const {
    return rereading ? rereading->next_tokens(cache) : tokens.data() + cache.n_rows();
  }
  /// Rows that may be computed before rows are dropped.
  std::uint32_t n_to_eviction() const {
    return rereading ? UINT32_MAX : evictions.next(cache.n_rows()) - cache.n_rows();
  }
  /// Rows that may be computed at once: what others may share is left to them in a step before the
  /// one in which rows are dropped; and none goes past the place where the prompt is read again.
  std::uint32_t n_to_pause() const {
    std::uint32_t n = n_to_eviction();
    const std::uint32_t n_rows = cache.n_rows();
    for (const std::uint32_t pause : {n_to_share, evictions.reread_at()}) {
      if (n_rows < pause) n = std::min(n, pause - n_rows);
    }
    return n;
  }
  /// Rows that it misses, those that are read again and not kept among them.
  std::uint32_t n_to_store() const {
    const std::uint32_t n_ahead = cache.n_rows() < evictions.reread_at() ? evictions.n_reread : 0;
    return n_missing() + std::min(n_ahead, evictions.reread_at());
  }
  /// Behind all but the last token of the prompt, of which something is still to be read again.
  bool must_reread() const {
    const std::uint32_t at = evictions.reread_at();
    return at != 0 && !rereading && cache.n_rows() == at && n_reread < at;
  }
  void clear_cache() {
    cache.clear();
    statistics.clear();
    rereading.reset();
    n_reread = 0;
  }
  /// Its priority, and what that has become by waiting: the lowest goes first.
  std::int64_t rank() const {
    return std::int64_t{request->request.priority} - n_overtaken / kOvertakings;
  }
  SequencePolicy& policy() const { return *request->policy; }
  CacheUsage usage() const { return {cache.n_rows(), cache.mean_held_rows(), cache.bytes()}; }
  std::uint32_t n_generated() const {
    return static_cast<std::uint32_t>(tokens.size() - request->request.prompt.size());
  }

  std::shared_ptr<RequestState> request;
  std::uint32_t sample;
  std::vector<TokenId> tokens;  // prompt, then what was generated
  SequenceCache cache;
  Sampler sampler;
  std::optional<GrammarMatcher> matcher;  // of what was generated
  StreamDecoder decoder;
  StopMatcher stops;
  std::vector<double> pooled;  // with pooling: [n_embd] what the computed rows add up to
  EvictionPoints evictions;
  std::uint32_t n_to_share = 0;  // first rows, in whole blocks, that others may share before rows
                                 // are dropped; 0: none, or no rows are dropped
  CacheStatistics statistics;    // empty when no policy wants them
  std::optional<Rereading> rereading;  // under way: `cache` holds its rows behind the text's
  std::uint32_t n_reread = 0;          // tokens of the prompt that were or are read again
  FinishReason finish = FinishReason::none;
  std::uint32_t n_shared = 0;       // rows found cached that were counted
  std::uint64_t prefixes_seen = 0;  // PrefixTree::version() at the last look
  bool preempted = false;
  bool runs_alone = false;  // found no room among blocks strewn by others: nobody joins it
  std::uint32_t n_pending_samples = 0;  // forked from this one once the prompt is computed
  std::uint32_t n_overtaken = 0;        // times a later one was admitted before it
};

}  // namespace larder
