// Stripes that go into a sequence's cache and out of it, shared with other sequences.
#include <algorithm>

#include "base/check.h"
#include "kv/sequence_cache.h"

namespace larder {

void SequenceCache::stripe(std::uint32_t run, std::span<BlockId> out) const {
  LARDER_CHECK(out.size() == tables_.size() && run < blocks_for(n_rows_) && !has_dropped());
  for (std::size_t l = 0; l < shape_->layers.size(); ++l) {
    const bool is_open = run == blocks_for(l, n_rows_);
    for (std::size_t i = first_table_[l]; i < first_table_[l + 1]; ++i) {
      const BlockTable& table = tables_[i];
      if (is_open) {
        out[i] = open_[i].blocks().front();
      } else {
        out[i] = run < table.first_block() ? kNoBlock : table.blocks()[run - table.first_block()];
      }
    }
  }
}

void SequenceCache::append_stripe(std::span<const BlockId> blocks, std::uint32_t n_rows) {
  LARDER_CHECK(blocks.size() == tables_.size() && n_reserved_ == 0 && !has_dropped());
  LARDER_CHECK(n_rows_ % shape_->block_tokens == 0 && n_rows <= shape_->block_tokens);
  LARDER_CHECK(n_rows <= max_tokens_ - n_rows_);
  for (std::size_t l = 0; l < shape_->layers.size(); ++l) {
    const bool is_open = shape_->layers[l].seals() && n_rows < shape_->block_tokens;
    for (std::size_t i = first_table_[l]; i < first_table_[l + 1]; ++i) {
      BlockTable& table = is_open ? open_[i] : tables_[i];
      if (blocks[i] == kNoBlock) {  // nor is any before it of use to this layer
        table.drop_front(static_cast<std::uint32_t>(table.blocks().size()));
        table.begin_at(blocks_for(n_rows_) + 1);
        continue;
      }
      pool_->share(blocks[i]);
      table.push(blocks[i]);
    }
  }
  n_rows_ += n_rows;
  leave_windows();
}

std::size_t SequenceCache::replace_stripe(std::uint32_t run, std::span<const BlockId> blocks) {
  LARDER_CHECK(blocks.size() == tables_.size() && !has_dropped());
  std::size_t n_replaced = 0;
  for (std::size_t i = 0; i < tables_.size(); ++i) {
    BlockTable& table = tables_[i];
    if (blocks[i] == kNoBlock || run < table.first_block()) continue;
    const std::size_t index = run - table.first_block();
    if (table.blocks()[index] == blocks[i]) continue;
    pool_->share(blocks[i]);
    table.replace(index, blocks[i]);
    ++n_replaced;
  }
  return n_replaced;
}

std::uint32_t SequenceCache::first_window_run(const CacheShape& shape, std::uint32_t n_rows) {
  std::uint32_t first = (n_rows + shape.block_tokens - 1) / shape.block_tokens;
  for (const CacheLayer& layer : shape.layers) {
    if (layer.window > 0) first = std::min(first, first_visible_block(shape, n_rows, layer.window));
  }
  return first;
}

}  // namespace larder
