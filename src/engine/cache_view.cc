// The cache as people would look at it.
#include <fmt/format.h>

#include <algorithm>

#include "engine/engine_impl.h"

namespace larder {
namespace {

bool alike(const CacheView::Layers& a, const CacheView::Layers& b) {
  return a.n_blocks == b.n_blocks && a.n_shared == b.n_shared && a.bytes == b.bytes;
}

std::string_view state_of(const Sequence& sequence, bool runs) {
  if (!runs) return "waiting";
  return sequence.n_missing() == 1 && sequence.n_generated() > 0 ? "decode" : "prefill";
}

}  // namespace

std::string Engine::Impl::format_name() const {
  const KvFormats& first = plan.formats.front();
  const bool one_for_all =
      first.k == first.v &&
      std::count(plan.formats.begin(), plan.formats.end(), first) == std::ssize(plan.formats);
  return (one_for_all ? std::string(first.k->name) : formats_text(plan.formats)) + raw_text();
}

std::vector<CacheView::Layers> Engine::Impl::layers_of(const SequenceCache& cache) const {
  std::vector<CacheView::Layers> all;
  const std::uint32_t n_parts = plan.shape.heads_apart ? source->config().n_kv_heads : 1;
  for (std::uint32_t l = 0; l < source->config().n_layers; ++l) {
    CacheView::Layers layer;
    layer.first_layer = l;
    layer.n_layers = 1;
    const auto count = [&](BlockId id) {
      ++layer.n_blocks;
      layer.n_shared += pool.ref_count(id) > 1 ? 1 : 0;
      layer.bytes += pool.block_bytes(pool.block_class(id));
    };
    for (std::uint32_t part = l * n_parts; part < (l + 1) * n_parts; ++part) {
      for (std::uint32_t h = 0; h < plan.shape.layers[part].n_kv_heads; ++h) {
        for (const BlockId id : cache.table(part, h).blocks()) count(id);
        if (cache.has_open_block(part)) count(cache.open_block(part, h));
      }
    }
    if (!all.empty() && alike(all.back(), layer)) {
      ++all.back().n_layers;
    } else {
      all.push_back(layer);
    }
  }
  return all;
}

CacheView Engine::Impl::cache_view() const {
  CacheView view;
  scheduler.for_each([&](const Sequence& s, bool runs) {
    CacheView::Sequence& shown = view.sequences.emplace_back();
    shown.request = s.request->id;
    shown.sample = s.sample;
    shown.state = state_of(s, runs);
    shown.n_prompt_tokens = static_cast<std::uint32_t>(s.request->request.prompt.size());
    shown.n_tokens = static_cast<std::uint32_t>(s.tokens.size());
    shown.n_rows = s.cache.n_rows();
    shown.n_reused_tokens = s.request->n_reused_tokens;
    shown.layers = layers_of(s.cache);
  });
  view.bytes = pool.bytes_in_use();
  view.budget_bytes = pool.budget_bytes();
  view.peak_bytes = pool.peak_bytes();
  view.block_tokens = options.kv.block_tokens;
  view.format = format_name();
  view.prefix_caching = prefixes.has_value();
  if (!prefixes) return view;
  const PrefixSummary tree = prefixes->summary();
  view.n_stripes = tree.n_stripes;
  view.n_pinned_stripes = tree.n_pinned;
  view.n_salts = tree.n_salts;
  view.tree_bytes = tree.bytes;
  view.idle_bytes = tree.only_bytes;
  view.n_evicted = tree.n_evicted;
  view.n_dropped = tree.n_dropped;
  view.n_deduplicated_blocks = tree.n_deduplicated;
  view.longest_prefix = tree.longest_rows;
  return view;
}

}  // namespace larder
