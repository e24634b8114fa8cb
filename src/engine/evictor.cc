#include "engine/evictor.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/fail.h"
#include "kernels/key_scores.h"
#include "kernels/merge_values.h"
#include "kernels/move_rows.h"
#include "kernels/query_moments.h"
#include "kernels/repack_rows.h"
#include "policy/pool_scores.h"
#include "policy/row_lots.h"
#include "policy/select_rows.h"
#include "policy/split_rows.h"

namespace larder {
namespace {

constexpr std::uint32_t kFutureQueries = 512;  // positions that expected attention looks ahead

}  // namespace

CreditRule credit_rule(const Policy& policy) noexcept {
  CreditRule rule{.rise = static_cast<float>(policy.rise_percent) / 100.0F, .seed = policy.seed};
  if (policy.counting == Counting::unimportant) rule.credit = Credit::unimportant;
  if (policy.counting == Counting::noisy) rule.credit = Credit::noisy;
  if (policy.counting == Counting::largest) rule.credit = Credit::largest;
  return rule;
}

Evictor::Evictor(const EvictionOptions& options, const CacheShape& shape, const Compute& compute,
                 std::vector<KvLayout> layouts, EvictorModel model)
    : options_(options),
      shape_(shape),
      compute_(compute),
      layouts_(std::move(layouts)),
      model_(std::move(model)),
      block_{shape.block_tokens, model_.head_dim},
      parts_of_block_(block_, {shape.block_tokens,
                               model_.value_dim != 0 ? model_.value_dim : model_.head_dim}) {
  for (std::uint32_t layer = 0; layer < n_layers(); ++layer) n_dropping_ += drops(layer) ? 1 : 0;
}

CacheStatistics::Wants Evictor::wants() const noexcept {
  switch (options_.policy.score) {
    case Score::attention:
      return {.rows = true, .far_rows = fits_patterns()};
    case Score::expected_attention:
      return {.query_floats = model_.n_heads / n_parts() * query_moment_floats(model_.head_dim)};
    default:
      return {};
  }
}

EvictionPoints Evictor::points(std::uint32_t n_prompt) const noexcept {
  const Policy& policy = options_.policy;
  EvictionPoints points;
  points.n_keep = rows_to_keep(policy, options_.budget, n_prompt);
  const auto repacking = std::find_if(shape_.layers.begin(), shape_.layers.end(),
                                      [](const CacheLayer& layer) { return layer.repacks; });
  if (repacking != shape_.layers.end()) {
    points.n_keep =
        in_blocks(static_cast<std::uint32_t>(repacking - shape_.layers.begin()), points.n_keep);
  }
  std::uint64_t n_most =
      std::uint64_t{most_rows_of_layer(policy, points.n_keep, 0, n_dropping_)} * n_parts();
  if (has_head_file()) {
    n_most = points.n_keep;
    for (const float share : options_.shares.shares) {
      if (share == HeadShares::kAll) continue;  // nothing of such a head is put together anew
      n_most = std::max<std::uint64_t>(n_most, rows_of_head(policy, points.n_keep, share));
    }
  }
  if (repacking != shape_.layers.end()) n_most += block_.block_tokens - 1;
  points.n_most = static_cast<std::uint32_t>(std::min<std::uint64_t>(n_most, UINT32_MAX));
  points.every = policy.every;
  points.prompt_end = policy.at_prompt_end ? n_prompt : 0;
  const CacheStatistics::Wants wanted = wants();
  if (wanted.rows || wanted.query_floats != 0) {
    points.n_observed = policy.window == 0 ? UINT32_MAX : policy.window;
  }
  if (fits_patterns()) points.n_most = UINT32_MAX;
  points.n_near = fits_patterns() ? points.n_keep : 0;
  points.n_reread = policy.chunk;
  if (policy.chunk != 0) points.n_observed = 0;
  return points;
}

Result<void> Evictor::evict(SequenceCache& cache, std::uint32_t n_keep, CacheStatistics& statistics,
                            std::span<const TokenId> tokens) {
  if (fits_patterns()) set_kinds(tokens.first(cache.n_rows()));
  if (options_.policy.score == Score::expected_attention) {
    future_ = mean_rotation(model_.rope, cache.n_rows(), kFutureQueries);
  }
  std::uint32_t index = 0;  // among the layers that drop rows
  for (std::uint32_t layer = 0; layer < n_layers(); ++layer) {
    if (!drops(layer)) continue;
    const std::uint32_t n =
        rows_of_layer(options_.policy, n_keep, index++, n_dropping_, cache.n_rows());
    LARDER_TRY(evict_layer(cache, layer, in_blocks(layer * n_parts(), n), statistics));
  }
  cache.release_spares();
  if (statistics.of_rows() && options_.policy.window != 0) statistics.clear();
  return {};
}

Result<void> Evictor::evict_layer(SequenceCache& cache, std::uint32_t layer, std::uint32_t n_keep,
                                  CacheStatistics& statistics) {
  set_parts(cache, layer);
  std::uint32_t n_rows = 0;  // on average
  for (const Part& part : parts_) n_rows += part.n_rows;
  n_rows /= n_parts();
  if (n_rows <= n_keep && !has_head_file() && !fits_patterns()) return {};
  for (const Part& part : parts_) score(cache, part, statistics);
  if (std::any_of(scores_.begin(), scores_.end(), [](float s) { return std::isnan(s); })) {
    return fail(Errc::corrupt, "layer {} caches keys that are no numbers; a weight is damaged",
                layer);
  }
  if (fits_patterns()) {
    fit_patterns(n_keep, statistics);
  } else {
    has_head_file() ? set_counts_by_file(n_keep) : set_counts(n_keep);
  }
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    if (counts_[i] >= parts_[i].n_rows) continue;
    const ProtectedRows protect =
        fits_patterns() ? ProtectedRows{} : protected_rows(has_head_file() ? counts_[i] : n_keep);
    drop(cache, parts_[i], counts_[i], protect, statistics);
  }
  return {};
}

void Evictor::set_parts(const SequenceCache& cache, std::uint32_t layer) {
  parts_.clear();
  std::size_t n_scores = 0;
  for (std::uint32_t i = 0; i < n_parts(); ++i) {
    const std::uint32_t index = layer * n_parts() + i;
    parts_.push_back({layer, i, index, shape_.layers[index].n_kv_heads, cache.n_stored(index), {}});
    n_scores += std::size_t{parts_.back().n_heads} * parts_.back().n_rows;
  }
  scores_.resize(n_scores);
  std::span<float> left = scores_;
  for (Part& part : parts_) {
    part.scores = left.first(std::size_t{part.n_heads} * part.n_rows);
    left = left.subspan(part.scores.size());
  }
}

ProtectedRows Evictor::protected_rows(std::uint32_t n_keep) const noexcept {
  return {options_.policy.sinks, protected_newest(options_.policy, n_keep)};
}

void Evictor::set_counts_by_file(std::uint32_t n_keep) {
  counts_.clear();
  for (const Part& part : parts_) {
    const float share = options_.shares.of(part.layer, part.first_head);
    counts_.push_back(rows_of_head(options_.policy, n_keep, share));
  }
}

/// Rows of the parts that stay, of `n_keep` on average.
void Evictor::set_counts(std::uint32_t n_keep) {
  counts_.assign(parts_.size(), n_keep);
  if (!shape_.heads_apart) return;
  std::vector<std::span<const float>> scores;
  for (const Part& part : parts_) scores.push_back(part.scores);
  split_rows(scores, protected_rows(n_keep), {n_keep, options_.policy.floor_percent}, counts_);
}

/// Patterns are fitted while the cache still is the text's: a row stands at its position.
void Evictor::set_kinds(std::span<const TokenId> tokens) {
  kinds_.clear();
  for (const TokenId id : tokens) {
    kinds_.push_back(model_.token_kinds[static_cast<std::size_t>(id)]);
  }
}

/// Each part is a head: the rows of its pattern have the score 1, the others 0.
void Evictor::fit_patterns(std::uint32_t n_keep, CacheStatistics& statistics) {
  const Policy& policy = options_.policy;
  const PatternRule rule{{policy.sinks, policy.recent}, n_keep, n_keep, policy.recover_percent};
  counts_.clear();
  for (const Part& part : parts_) {
    const float* sums = statistics.layer(part.index);
    fit_pattern({{sums, part.n_rows}, {sums + statistics.far(), part.n_rows}}, kinds_, rule,
                part.scores);
    counts_.push_back(
        static_cast<std::uint32_t>(std::count(part.scores.begin(), part.scores.end(), 1.0F)));
  }
}

void Evictor::drop(SequenceCache& cache, const Part& part, std::uint32_t n_keep,
                   ProtectedRows protect, CacheStatistics& statistics) {
  order_.resize(part.n_rows);
  kept_.resize(std::size_t{part.n_heads} * n_keep);
  moves_.resize(part.n_heads);
  const bool in_runs = options_.policy.merging == Merging::in_runs;
  for (std::uint32_t head = 0; head < part.n_heads && !in_runs; ++head) {
    select_rows(part.scores.subspan(std::size_t{head} * part.n_rows, part.n_rows), protect, order_,
                std::span(kept_).subspan(std::size_t{head} * n_keep, n_keep));
  }
  const bool merges = options_.policy.merging != Merging::none;
  if (merges) collect_merges(rows_of(cache, part), part, {n_keep, cache.n_rows(), protect});
  std::vector<BlockId> open;
  for (std::uint32_t head = 0; head < part.n_heads && cache.has_open_block(part.index); ++head) {
    open.push_back(cache.open_block(part.index, head));
  }
  cache.keep_rows(part.index, kept_, moves_, merges);
  make_moves(part, open);
  if (merges) {
    const KeyRows rows = rows_of(cache, part);
    for (std::uint32_t head = 0; head < part.n_heads; ++head) {
      add_values(rows, head, merges_[head].own, merges_[head].sums);
      if (in_runs) add_keys(rows, head, merges_[head].own, merges_[head].key_sums);
    }
  }
  if (statistics.of_rows()) statistics.keep_rows(part.index, kept_, part.n_heads);
}

/// `open`: where rows stand that are not sealed yet, if any.
void Evictor::make_moves(const Part& part, std::span<const BlockId> open) {
  const KvLayout& layout = layouts_[part.layer];
  if (!layout.seals()) return move_rows(compute_, layout, parts_of_block_, moves_);
  const bool has_moves = std::any_of(moves_.begin(), moves_.end(),
                                     [](const auto& of_head) { return !of_head.empty(); });
  if (!has_moves) return;
  repack_rows(compute_, layout, block_, moves_, open,
              open.empty() ? 0 : part.n_rows % block_.block_tokens);
}

/// Where the rows of a part stand now.
KeyRows Evictor::rows_of(const SequenceCache& cache, const Part& part) {
  heads_.clear();
  for (std::uint32_t head = 0; head < part.n_heads; ++head) {
    const bool has_open = cache.has_open_block(part.index);
    heads_.push_back({cache.table(part.index, head).blocks(), 0,
                      has_open ? cache.open_block(part.index, head) : BlockId{}});
  }
  return {layouts_[part.layer], block_, heads_, part.n_rows};
}

/// What attention added up, pooled without the rows of the window's queries, which stay anyway.
void Evictor::score_by_attention(const Part& part, CacheStatistics& statistics) {
  const std::uint32_t n_rows = part.n_rows;
  const float* from = statistics.layer(part.index);
  float* scores = part.scores.data();
  for (std::uint32_t head = 0; head < part.n_heads; ++head) {
    std::copy_n(from + head * statistics.stride(), n_rows, scores + std::size_t{head} * n_rows);
  }
  if (options_.policy.joins_heads) {
    for (std::uint32_t head = 1; head < part.n_heads; ++head) {
      compute_.simd.axpy(1.0F, scores + std::size_t{head} * n_rows, scores, n_rows);
    }
    for (std::uint32_t head = 1; head < part.n_heads; ++head) {
      std::copy_n(scores, n_rows, scores + std::size_t{head} * n_rows);
    }
  }
  if (options_.policy.kernel == 1) return;
  const std::uint32_t n_pooled = n_rows - std::min(n_rows, options_.policy.window);
  pooled_.resize(n_pooled);
  for (std::uint32_t head = 0; head < part.n_heads; ++head) {
    pool_scores(options_.policy.kernel, pooled_,
                part.scores.subspan(std::size_t{head} * n_rows, n_pooled));
  }
}

void Evictor::score(const SequenceCache& cache, const Part& part, CacheStatistics& statistics) {
  const auto of_head = [&](std::uint32_t head) {
    return part.scores.subspan(std::size_t{head} * part.n_rows, part.n_rows);
  };
  const KeyRows keys = rows_of(cache, part);
  switch (options_.policy.score) {
    case Score::position:
      for (std::uint32_t head = 0; head < part.n_heads; ++head) {
        std::iota(of_head(head).begin(), of_head(head).end(), 0.0F);
      }
      return;
    case Score::random:
      for (std::uint32_t head = 0; head < part.n_heads; ++head) {
        const std::uint32_t lot = part.first_head + head;
        draw_lots({options_.policy.seed, part.layer, lot, cache.n_rows()}, of_head(head));
      }
      return;
    case Score::key_norm:
      return key_norm_scores(compute_, keys, part.scores);
    case Score::key_spread:
      return key_spread_scores(compute_, keys, part.scores);
    case Score::expected_attention:
      return expected_attention_scores(
          compute_, keys,
          {model_.n_heads / n_parts(), statistics.layer_queries(part.index), *future_,
           model_.attention_scale},
          part.scores);
    case Score::attention:
      return score_by_attention(part, statistics);
  }
}

}  // namespace larder
