#include "cached_context.h"

#include <algorithm>
#include <utility>

#include "base/fail.h"
#include "policy/methods.h"
#include "terminal.h"

namespace larder {

Result<CachedContext> cache_context(Engine& engine, std::vector<std::int32_t> tokens) {
  Request request;
  request.prompt = std::move(tokens);
  request.max_tokens = 1;  // the least; its row is not computed
  request.sampling.temperature = 0;
  request.keep_cache = true;
  CachedContext context;
  LARDER_ASSIGN(context.id, engine.submit(std::move(request)));
  LARDER_TRY(run_until_idle(engine));
  context.kv_bytes = engine.stats().kv_bytes;
  return context;
}

Result<void> run_until_idle(Engine& engine, const std::function<void(const TokenEvent&)>& take) {
  while (!engine.idle()) {
    if (InterruptGuard::interrupted()) return fail(Errc::unavailable, "interrupted");
    LARDER_ASSIGN(const StepReport report, engine.step());
    if (!take) continue;
    for (const TokenEvent& event : report.events) take(event);
  }
  return {};
}

std::uint32_t sequences_with_room(const EngineOptions& options) {
  return names_no_policy(options.kv.policy) ? 1 : std::min(3U, options.n_batch);
}

std::uint32_t context_with_room(const EngineOptions& options, std::uint32_t n_tokens) {
  // Each of the two has an open block, which is raw: as large as up to eight sealed ones.
  constexpr std::uint32_t kSpareBlocks = 16;
  return n_tokens + kSpareBlocks * options.kv.block_tokens;
}

}  // namespace larder
