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

std::vector<CacheView::Layers> Engine::Impl::layers_of(const Sequence& sequence) const {
  std::vector<CacheView::Layers> all;
  const SequenceCache& cache = sequence.cache;
  const CacheShape& shape = sequence.policy().rows.shape;
  const std::uint32_t n_parts = shape.heads_apart ? source->config().n_kv_heads : 1;
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
      for (std::uint32_t h = 0; h < shape.layers[part].n_kv_heads; ++h) {
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

/// [n_classes]: what the blocks of a class hold.
std::vector<std::string> Engine::Impl::formats_of_classes() const {
  std::vector<std::string> names(pool.n_classes());
  const auto add = [&](BlockClass cls, const KvCodec& k, const KvCodec& v) {
    std::string& all = names[static_cast<std::size_t>(cls)];
    const std::string name = &k == &v ? std::string(k.name) : fmt::format("{}/{}", k.name, v.name);
    if (all.empty()) {
      all = name;
    } else if (fmt::format(", {},", all).find(fmt::format(" {},", name)) == std::string::npos) {
      all += ", " + name;
    }
  };
  for (std::size_t l = 0; l < plan.shape.layers.size(); ++l) {
    const CacheLayer& layer = plan.shape.layers[l];
    const KvLayout& layout = plan.layouts[l];
    if (layer.n_kv_heads == 0) continue;  // reads another's rows
    add(layer.sealed_class, *layout.k, *layout.v);
    if (layer.seals()) add(layer.open_class, *layout.open_k, *layout.open_v);
  }
  return names;
}

/// [n_classes]: blocks that will take rows, of which nobody else knows.
std::vector<std::size_t> Engine::Impl::count_open() const {
  std::vector<std::size_t> n_open(pool.n_classes());
  const auto count = [&](BlockId id) {
    if (pool.ref_count(id) == 1) ++n_open[static_cast<std::size_t>(pool.block_class(id))];
  };
  scheduler.for_each([&](const Sequence& s, bool) {
    const CacheShape& shape = s.policy().rows.shape;
    for (std::uint32_t l = 0; l < shape.layers.size(); ++l) {
      const bool ends_inside = s.cache.n_stored(l) % shape.block_tokens != 0;
      for (std::uint32_t h = 0; h < shape.layers[l].n_kv_heads; ++h) {
        if (s.cache.has_open_block(l)) {
          count(s.cache.open_block(l, h));
        } else if (!shape.layers[l].seals() && ends_inside) {
          count(s.cache.table(l, h).blocks().back());
        }
      }
    }
  });
  return n_open;
}

/// Blocks outside extents count with those of the same size in them.
std::vector<CacheView::Blocks> Engine::Impl::count_blocks(const PrefixSummary& tree) const {
  std::vector<CacheView::Blocks> all;
  const std::vector<ClassUse> uses = pool.count_blocks();
  const std::vector<std::size_t> n_open = count_open();
  const std::vector<std::string> formats = formats_of_classes();
  const auto count = [&](std::size_t c, CacheView::Blocks& blocks) {
    const std::size_t n_kept = tree.n_only.empty() ? 0 : tree.n_only[c];
    blocks.n_open += n_open[c];
    blocks.n_shared += uses[c].n_shared;
    blocks.n_kept += n_kept;
    blocks.n_sealed += uses[c].n_live - n_open[c] - uses[c].n_shared - n_kept;
  };
  for (std::size_t c = 0; c < plan.single_classes.size(); ++c) {
    const auto cls = static_cast<BlockClass>(c);
    CacheView::Blocks& blocks = all.emplace_back();
    blocks.format = formats[c];
    blocks.bytes = pool.block_bytes(cls);
    blocks.n_free = pool.n_free_extents(cls) * pool.extent_blocks(cls);
    count(c, blocks);
    if (plan.single_class(cls) == cls) continue;
    count(static_cast<std::size_t>(plan.single_class(cls)), blocks);
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
    shown.layers = layers_of(s);
    shown.policy = s.policy().text;
  });
  view.bytes = pool.bytes_in_use();
  view.budget_bytes = pool.budget_bytes();
  view.peak_bytes = pool.peak_bytes();
  view.block_tokens = options.kv.block_tokens;
  view.format = format_name();
  view.policy = own_policy->text;
  view.n_policies = policies.size();
  view.prefix_caching = prefixes.has_value();
  PrefixSummary tree = prefixes ? prefixes->summary() : PrefixSummary{};
  if (!tree.n_only.empty()) compressed.count_only(pool, tree.n_only);
  view.blocks = count_blocks(tree);
  if (!prefixes) return view;
  view.n_compressed = compressed.size();
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
