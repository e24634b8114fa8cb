// The tile registers of AMX. The instructions stand here as assembler: the compilers' own functions
// do not say that they read and write memory (GCC 12), or choose registers by themselves.
#pragma once

#include <cstddef>
#include <cstdint>

namespace larder::simd::amx {

inline constexpr std::size_t kTileRows = 16;
inline constexpr std::size_t kTileRowBytes = 64;

/// The shapes of the eight tile registers, as LDTILECFG reads them. A product C += A B has
/// C [m][n] of 32 bits, A [m][k] and B [k][n] with two bf16 or four bytes side by side in 32 bits:
/// pairs (or fours) of A's row are multiplied with those of B's column.
struct alignas(64) TileShapes {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};

  constexpr void set(int tile, std::size_t n_rows, std::size_t n_row_bytes) {
    rows[tile] = static_cast<std::uint8_t>(n_rows);
    row_bytes[tile] = static_cast<std::uint16_t>(n_row_bytes);
  }
};
static_assert(sizeof(TileShapes) == 64);

/// Tile registers in use, from here to the end of the scope: behind it they are free again, so that
/// the system has nothing of them to save when threads change.
class TileScope {
 public:
  explicit TileScope(const TileShapes& shapes) {
    asm volatile("ldtilecfg %0" : : "m"(shapes) : "memory");
  }
  ~TileScope() { asm volatile("tilerelease" : : : "memory"); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

// Rows begin `stride` bytes apart.
template <int kTile>
[[gnu::always_inline]] inline void load_tile(const void* from, std::size_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(kTile) : "memory");
}
template <int kTile>
[[gnu::always_inline]] inline void store_tile(void* to, std::size_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(kTile) : "memory");
}
template <int kTile>
[[gnu::always_inline]] inline void zero_tile() {
  asm volatile("tilezero %%tmm%c0" : : "i"(kTile) : "memory");
}
/// C += A B of pairs of bf16. Denormals count as zero. A sum adds the even and the odd products of
/// the pairs apart, in order, and the two to C at last: it does not depend on other rows of A.
template <int kC, int kA, int kB>
[[gnu::always_inline]] inline void multiply_bf16() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB) : "memory");
}
/// C += A B of fours of signed bytes, exact.
template <int kC, int kA, int kB>
[[gnu::always_inline]] inline void multiply_bytes() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB) : "memory");
}

}  // namespace larder::simd::amx
