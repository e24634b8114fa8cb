#include "simd/amx/support.h"

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "simd/amx/kv.h"
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
  table.run_scores_bf16 = run_scores_bf16;
  table.run_accumulate_bf16 = run_accumulate_bf16;
  table.run_scores_codes = run_scores_codes;
  table.run_accumulate_codes = run_accumulate_codes;
  return table;
}

}  // namespace larder::simd::amx
