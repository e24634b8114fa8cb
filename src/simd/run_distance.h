// How far ahead of what is read of a run stands what is fetched meanwhile.
#pragma once

#include <cstddef>

#include "simd/simd.h"

namespace larder::simd {
namespace {  // not shared between instruction sets

/// From part b of a run to the part to be fetched while it is read: `bytes_ahead` in reading order,
/// by default enough lines under way to hide the latency of memory that two cores load, few enough
/// for the L1 cache. Zero where nothing follows.
[[maybe_unused]] inline std::ptrdiff_t distance_ahead(const KvRun& run, std::size_t b,
                                                      std::size_t part_bytes,
                                                      std::size_t bytes_ahead = 8192) {
  const std::size_t next = b + (part_bytes < bytes_ahead ? bytes_ahead / part_bytes : 1);
  if (next >= run.n_blocks + run.n_next) return 0;
  return run.parts[next] - run.parts[b];
}

}  // namespace
}  // namespace larder::simd
