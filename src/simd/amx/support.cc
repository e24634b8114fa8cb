#include "simd/amx/support.h"

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

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
  return table;
}

}  // namespace larder::simd::amx
