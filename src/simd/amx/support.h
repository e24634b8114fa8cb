// AMX: the avx512 set with matrix units. Only on Linux, which must be asked for the registers.
#pragma once

#include "simd/simd.h"

namespace larder::simd::amx {

/// Asks the system to keep the tile registers of this process's threads. False where it does not,
/// as when a thread has a signal stack too small for them; later ones that small are refused.
/// REQUIRES: the processor has AMX-TILE.
bool request_tiles() noexcept;

/// The set: `avx512`, with other products of matrices.
Table make_table(const Table& avx512) noexcept;

}  // namespace larder::simd::amx
