#include "engine/stretch_cache.h"

#include <algorithm>
#include <vector>

#include "base/check.h"

namespace larder {
namespace {

// Fills the reserved blocks of one head: those from block `begin` of the sequence on.
void repeat_blocks(const BlockTable& table, std::uint32_t begin, const BlockPool& pool,
                   BlockStore& store) {
  const auto blocks = table.blocks();
  for (std::size_t i = begin - table.first_block(); i < blocks.size(); ++i) {
    LARDER_CHECK(pool.block_class(blocks[i - 1]) == pool.block_class(blocks[i]));
    store.copy(blocks[i - 1], blocks[i], pool.block_bytes(pool.block_class(blocks[i])));
  }
}

// Raw rows of which there are none to repeat: zeros are numbers in every raw format.
void clear_block(BlockId id, const BlockPool& pool, BlockStore& store) {
  const auto bytes = store.bytes(id, pool.block_bytes(pool.block_class(id)));
  std::fill(bytes.begin(), bytes.end(), std::byte{0});
}

}  // namespace

bool stretch_cache(SequenceCache& cache, const CacheShape& shape, const BlockPool& pool,
                   BlockStore& store, const Stretch& stretch) {
  LARDER_CHECK(cache.n_rows() > 0 && cache.n_rows() % shape.block_tokens == 0);
  std::vector<BlockCopy> copies;
  while (cache.n_rows() < stretch.n_rows) {
    const std::uint32_t begin = cache.n_rows() / shape.block_tokens;
    // Whole blocks, so that the next round begins with a full one again.
    const std::uint32_t step =
        std::max(stretch.step_rows / shape.block_tokens, 1U) * shape.block_tokens;
    const std::uint32_t n = std::min(step, stretch.n_rows - cache.n_rows());
    if (!cache.reserve(n, copies)) return false;
    LARDER_CHECK(copies.empty());
    for (std::uint32_t layer = 0; layer < shape.layers.size(); ++layer) {
      for (std::uint32_t head = 0; head < shape.layers[layer].n_kv_heads; ++head) {
        repeat_blocks(cache.table(layer, head), begin, pool, store);
        if (cache.has_open_block(layer)) clear_block(cache.open_block(layer, head), pool, store);
      }
    }
    cache.commit(n);
  }
  return true;
}

}  // namespace larder
