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
#include "engine/sampler.h"
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
    return static_cast<std::uint32_t>(tokens.size()) - cache.n_rows();
  }
  /// Rows that may be computed before rows are dropped.
  std::uint32_t n_to_eviction() const { return evictions.next(cache.n_rows()) - cache.n_rows(); }
  /// Rows that may be computed at once: what others may share is left to them in a step before the
  /// one in which rows are dropped.
  std::uint32_t n_to_pause() const {
    const std::uint32_t n_rows = cache.n_rows();
    return n_rows < n_to_share ? std::min(n_to_share - n_rows, n_to_eviction()) : n_to_eviction();
  }
  void clear_cache() {
    cache.clear();
    statistics.clear();
  }
  /// Its priority, and what that has become by waiting: the lowest goes first.
  std::int64_t rank() const {
    return std::int64_t{request->request.priority} - n_overtaken / kOvertakings;
  }
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
  FinishReason finish = FinishReason::none;
  std::uint32_t n_shared = 0;       // rows found cached that were counted
  std::uint64_t prefixes_seen = 0;  // PrefixTree::version() at the last look
  bool preempted = false;
  bool runs_alone = false;  // found no room among blocks strewn by others: nobody joins it
  std::uint32_t n_pending_samples = 0;  // forked from this one once the prompt is computed
  std::uint32_t n_overtaken = 0;        // times a later one was admitted before it
};

}  // namespace larder
