// What every kernel needs: an instruction set and threads.
#pragma once

#include "base/thread_pool.h"
#include "simd/simd.h"

namespace larder {

/// Borrowed by kernels for one call; the engine owns the pool.
struct Compute {
  const simd::Table& simd;
  ThreadPool& pool;
};

}  // namespace larder
