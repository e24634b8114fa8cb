// A context computed before anybody knows what will be asked about it.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "larder/engine.h"

namespace larder {

struct CachedContext {
  RequestId id = 0;            // for Request::reuse, until Engine::release
  std::uint64_t kv_bytes = 0;  // that it takes, from the allocator
};

/// Runs the tokens through the engine as a request of its own and keeps their cache: sealed,
/// compressed or evicted as the options say, without a look at what follows.
/// REQUIRES: the engine is idle and keeps nothing else. Errors: unavailable (Ctrl-C), the engine's.
Result<CachedContext> cache_context(Engine& engine, std::vector<std::int32_t> tokens);

/// Steps until nothing runs; `take`, if given, hears of every event. Errors: unavailable (Ctrl-C),
/// the engine's.
Result<void> run_until_idle(Engine& engine,
                            const std::function<void(const TokenEvent&)>& take = nullptr);

/// Sequences for which an engine needs memory that keeps a context and continues it, one question
/// after the other: under a policy that drops rows the two soon have no block in common, and while
/// rows are dropped those that stay stand there a third time.
std::uint32_t sequences_with_room(const EngineOptions& options);

/// The ctx-size that an engine for contexts of `n_tokens` needs, so that its byte budget holds a
/// kept cache and the sequence that continues it: they share all blocks but the last.
std::uint32_t context_with_room(const EngineOptions& options, std::uint32_t n_tokens);

}  // namespace larder
