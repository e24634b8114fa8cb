// A long cache without the work of computing it, for measurements.
#pragma once

#include <cstdint>

#include "kv/block_pool.h"
#include "kv/sequence_cache.h"
#include "store/block_store.h"

namespace larder {

struct Stretch {
  std::uint32_t n_rows;     // that the cache shall have
  std::uint32_t step_rows;  // blocks outside windows are given back after so many
};

/// Lengthens `cache` by repeating the bytes of its newest full block of each head; rows that end in
/// an open block of a layer that seals are zeros. False when blocks run out; the cache is then
/// shorter than asked for. REQUIRES: its rows are a whole number of blocks, more than
/// stay raw; nobody shares its last block.
bool stretch_cache(SequenceCache& cache, const CacheShape& shape, const BlockPool& pool,
                   BlockStore& store, const Stretch& stretch);

}  // namespace larder
