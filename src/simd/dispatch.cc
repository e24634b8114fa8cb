#include <array>

#include "simd/amx/support.h"
#include "simd/avx2/primitives.h"
#include "simd/avx512/primitives.h"
#include "simd/avxvnni/support.h"
#include "simd/scalar/primitives.h"
#include "simd/simd.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace larder::simd {
namespace {

#if defined(__x86_64__)

constexpr unsigned bit(unsigned i) { return 1U << i; }

struct CpuidLeaf {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;  // all zero when the processor lacks the leaf
};

CpuidLeaf cpuid(unsigned leaf, unsigned subleaf) noexcept {
  CpuidLeaf r;
  if (__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return {};
  return r;
}

/// XCR0: the register state that the operating system saves on a task switch. A processor may have
/// instructions whose registers the system (or hypervisor) does not keep.
unsigned saved_state() noexcept {
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

struct Features {
  bool avx2 = false;     // with FMA, F16C, BMI2
  bool avxvnni = false;  // with all of these
  bool avx512 = false;   // F, BW, VL, DQ, VBMI, VNNI, BF16: what the files below avx512/ may use
  bool amx = false;      // with all of these, tiles of int8 and of bf16
};

Features detect() noexcept {
  Features f;
  const CpuidLeaf one = cpuid(1, 0);
  constexpr unsigned kOsxsave = bit(27), kAvx = bit(28), kFma = bit(12), kF16c = bit(29);
  constexpr unsigned kNeeded1 = kOsxsave | kAvx | kFma | kF16c;
  if ((one.ecx & kNeeded1) != kNeeded1) return f;
  const unsigned state = saved_state();
  constexpr unsigned kYmm = bit(1) | bit(2), kZmm = kYmm | bit(5) | bit(6) | bit(7);
  if ((state & kYmm) != kYmm) return f;

  const CpuidLeaf seven = cpuid(7, 0);
  constexpr unsigned kAvx2 = bit(5), kBmi2 = bit(8);
  f.avx2 = (seven.ebx & (kAvx2 | kBmi2)) == (kAvx2 | kBmi2);
  if (!f.avx2) return f;
  const CpuidLeaf more = seven.eax >= 1 ? cpuid(7, 1) : CpuidLeaf{};
  constexpr unsigned kAvxVnni = bit(4), kBf16 = bit(5);  // of its eax
  f.avxvnni = (more.eax & kAvxVnni) != 0;
  if ((state & kZmm) != kZmm) return f;

  constexpr unsigned kFDqBwVl = bit(16) | bit(17) | bit(30) | bit(31);  // of ebx
  constexpr unsigned kVbmiVnni = bit(1) | bit(11);                      // of ecx
  f.avx512 = (seven.ebx & kFDqBwVl) == kFDqBwVl && (seven.ecx & kVbmiVnni) == kVbmiVnni &&
             (more.eax & kBf16) != 0;

  constexpr unsigned kTiles = bit(17) | bit(18);          // of the saved state
  constexpr unsigned kAmx = bit(22) | bit(24) | bit(25);  // of edx: bf16, tiles, int8
  f.amx = f.avx512 && (state & kTiles) == kTiles && (seven.edx & kAmx) == kAmx;
  return f;
}

#endif

struct Available {
  std::array<const Table*, 5> tables{};
  std::size_t n = 0;
};

Available find_available() noexcept {
  Available a;
  a.tables[a.n++] = &scalar::kTable;
#if defined(__x86_64__)
  const Features f = detect();
  if (f.avx2) a.tables[a.n++] = &avx2::kTable;
  if (f.avxvnni) {
    static const Table with_vnni = avxvnni::make_table(avx2::kTable);
    a.tables[a.n++] = &with_vnni;
  }
  if (f.avx512) a.tables[a.n++] = &avx512::kTable;
  if (f.amx && amx::request_tiles()) {
    static const Table with_tiles = amx::make_table(avx512::kTable);
    a.tables[a.n++] = &with_tiles;
  }
#endif
  return a;
}

}  // namespace

const Table& scalar_table() noexcept { return scalar::kTable; }

std::span<const Table* const> available() noexcept {
  static const Available found = find_available();
  return {found.tables.data(), found.n};
}

const Table& best() noexcept { return *available().back(); }

}  // namespace larder::simd
