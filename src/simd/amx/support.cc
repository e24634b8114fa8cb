#include "simd/amx/support.h"

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "simd/amx/kv.h"
#include "simd/amx/linear.h"
#include "simd/amx/tiles.h"

namespace larder::simd::amx {

bool request_tiles() noexcept {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // arch_prctl(2), ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

Table make_table(const Table& avx512) noexcept {
  Table table = avx512;
  table.name = "amx";
  table.run_queries = kTileRows;
  table.byte_tokens = kTileRowBytes;
  table.half_queries = kMaxHalfQueries;
  table.run_scores_f16 = run_scores_f16;
  table.run_accumulate_f16 = run_accumulate_f16;
  table.run_scores_bf16 = run_scores_bf16;
  table.run_accumulate_bf16 = run_accumulate_bf16;
  table.run_scores_codes = run_scores_codes;
  table.run_accumulate_codes = run_accumulate_codes;
  table.run_scores_bytes = run_scores_bytes;
  table.run_accumulate_bytes = run_accumulate_bytes;
  table.unpacks_bf16 = true;
  table.unpack_q8_0_k = unpack_q8_0_k;
  table.unpack_q8_0_v = unpack_q8_0_v;
  table.unpack_q4_0_k = unpack_q4_0_k;
  table.unpack_q4_0_v = unpack_q4_0_v;
  table.run_scores_integers = run_scores_unpacked;
  table.run_scores_q8_0 = run_scores_q8_0;
  table.run_scores_q4_0 = run_scores_q4_0;
  table.run_accumulate_integers = run_accumulate_unpacked;
  table.run_accumulate_q8_0 = run_accumulate_q8_0;
  table.run_accumulate_q4_0 = run_accumulate_q4_0;
  table.tile_q8_matrix = tile_q8_matrix;
  table.packed_q8_0_matrix = packed_q8_0_matrix;
  table.packed_q4_0_matrix = packed_q4_0_matrix;
  table.tile_bf16_matrix = tile_bf16_matrix;
  table.packed_bf16_matrix = packed_bf16_matrix;
  return table;
}

}  // namespace larder::simd::amx
