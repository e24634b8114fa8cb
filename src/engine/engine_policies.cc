// The policies of requests: chosen, made on first use, and given room.
#include <algorithm>
#include <new>
#include <utility>

#include "base/fail.h"
#include "engine/engine_impl.h"
#include "engine/forward_needs.h"
#include "engine/token_kinds.h"
#include "model/kv_shape.h"
#include "model/rope_table.h"

namespace larder {
namespace {

constexpr std::uint32_t kMaxCappedSinks = 32;  // some hundred MiB for large models

EvictorModel evictor_model(const ModelConfig& config, std::uint32_t n_context,
                           std::vector<TokenKind> kinds) {
  const KvShape row = kv_shape(config, 1);
  return {config.n_heads,
          config.n_kv_heads,
          row.k.head_dim,
          config.score_scale(),
          make_rope_table(config, false, n_context),
          std::move(kinds),
          row.v.head_dim};
}

}  // namespace

std::vector<KvLayout> Engine::Impl::layouts_in_pool() const {
  std::vector<KvLayout> layouts = plan.layouts;
  for (KvLayout& layout : layouts) layout.pool = store.pool();
  return layouts;
}

/// There is room for what it wants of the forward pass.
std::shared_ptr<SequencePolicy> Engine::Impl::make_policy(RowPlan rows, std::string text) {
  if (!rows.eviction) return std::make_shared<SequencePolicy>(std::move(rows), std::move(text));
  const ModelConfig& config = source->config();
  const Policy& policy = rows.eviction->policy;
  if (policy.chunk != 0 && !reread_texts) {
    reread_texts = make_reread_texts(*tokenizer, config.n_vocab);
  }
  if (policy.fits_patterns && kinds_.empty()) kinds_ = token_kinds(*tokenizer, config.n_vocab);
  auto kinds = policy.fits_patterns ? kinds_ : std::vector<TokenKind>{};
  EvictorModel model = evictor_model(config, options.n_context, std::move(kinds));
  return std::make_shared<SequencePolicy>(std::move(rows), std::move(text), compute,
                                          layouts_in_pool(), std::move(model));
}

Result<std::shared_ptr<SequencePolicy>> Engine::Impl::policy_of(const Request& request) {
  if (!request.kv_policy && !request.kv_keep) return own_policy;
  auto policy = named_policy(request);
  if (!policy) return tl::unexpected<Error>(in_words_of_requests(std::move(policy).error()));
  return policy;
}

Result<std::shared_ptr<SequencePolicy>> Engine::Impl::named_policy(const Request& request) {
  LARDER_ASSIGN(const PolicyChoice choice, policy_choice(request, options.kv, eviction));
  if (choice.is_own) return own_policy;
  std::shared_ptr<SequencePolicy> policy = all_rows;
  if (choice.eviction) {
    LARDER_ASSIGN(policy, known_policy(*choice.eviction));
  }
  LARDER_TRY(check_room(request, *policy));
  return policy;
}

Result<std::shared_ptr<SequencePolicy>> Engine::Impl::known_policy(const EvictionOptions& named) {
  const PolicyKey key{named.policy, named.budget};
  if (auto known = policies.find(key)) return known;
  LARDER_ASSIGN(RowPlan rows, plan_rows(source->config(), options, plan, named));
  LARDER_TRY(make_room_for(named));
  auto policy = make_policy(std::move(rows), eviction_text(named));
  policies.add(key, policy);
  return policy;
}

/// What the forward pass has not been asked for before.
Result<void> Engine::Impl::make_room_for(const EvictionOptions& named) {
  const ForwardLimits wanted = with_policy(limits, named.policy, options.kv.block_tokens);
  const std::uint32_t most_capped = std::max(limits.n_capped, kMaxCappedSinks);
  if (wanted.n_capped > most_capped) {
    return fail(Errc::unsupported,
                "kv-policy '{}' has {} sinks at a capped distance, each of which takes memory in "
                "every step: a request may have {}, more are the server's to name at its start",
                named.policy_text, wanted.n_capped, most_capped);
  }
  const ModelConfig& config = source->config();
  const std::uint64_t more = ForwardPass::scratch_bytes(config, wanted, options.n_threads) -
                             ForwardPass::scratch_bytes(config, limits, options.n_threads);
  if (more > spare_bytes_) {
    return fail(Errc::unavailable,
                "kv-policy '{}' needs {} of memory to work in, the machine has {} left",
                named.policy_text, format_bytes(more), format_bytes(spare_bytes_));
  }
  try {
    forward.make_room(wanted);
  } catch (const std::bad_alloc&) {
    return fail(Errc::unavailable, "kv-policy '{}' needs {} of memory to work in, there is none",
                named.policy_text, format_bytes(more));
  }
  spare_bytes_ -= more;
  limits = wanted;
  return {};
}

/// The budget holds a sequence of the full context under the engine's own policy, not under any.
Result<void> Engine::Impl::check_room(const Request& request, const SequencePolicy& policy) const {
  const std::uint64_t n_asked = request.prompt.size() + std::uint64_t{request.max_tokens};
  const bool is_open = request.max_tokens == 0 || n_asked > options.n_context;
  const auto n_tokens = is_open ? options.n_context : static_cast<std::uint32_t>(n_asked);
  const std::uint64_t bytes = bytes_of_sequence(options, plan, policy.rows, n_tokens);
  if (bytes > pool.budget_bytes()) {
    return fail(Errc::invalid_argument,
                "kv-policy '{}' stores up to {} of a text of {} tokens, the server has {} for "
                "its cache: ask for fewer tokens, or keep less",
                policy.drops() ? policy.rows.eviction->policy_text : policy.text,
                format_bytes(bytes), n_tokens, format_bytes(pool.budget_bytes()));
  }
  if (!policy.drops()) return {};
  const std::uint64_t counts =
      CacheStatistics::n_bytes(policy.rows.shape, policy.evictor->wants()) * options.n_sequences;
  if (counts <= spare_bytes_) return {};
  return fail(Errc::unavailable,
              "kv-policy '{}' counts in {} of memory beside the cache, the machine has {} left",
              policy.text, format_bytes(counts), format_bytes(spare_bytes_));
}

}  // namespace larder
