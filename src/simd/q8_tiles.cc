#include <cstring>

#include "simd/simd.h"

namespace larder::simd {
namespace {

/// Row t of a tile of h rows.
void tile_row(const Q8Rows& rows, std::size_t row, std::size_t h, std::size_t t, std::byte* tile) {
  const std::size_t n_groups = rows.n_cols / 32;
  const std::int8_t* q = rows.q + row * rows.n_cols;
  const float* scales = rows.scales + row * n_groups;
  const std::int32_t* sums = rows.sums + row * n_groups * 2;
  for (std::size_t g = 0; g < n_groups; ++g, tile += h * kQ8GroupBytes, q += 32) {
    const std::int32_t sum = sums[2 * g] + sums[2 * g + 1];
    const std::int32_t starts[2] = {-128 * sum, -8 * sum};
    std::memcpy(tile + t * 4, scales + g, 4);
    std::memcpy(tile + (h + t) * 4, starts, 4);
    std::memcpy(tile + (2 * h + t) * 4, starts + 1, 4);
    for (std::size_t i = 0; i < 8; ++i) std::memcpy(tile + ((3 + i) * h + t) * 4, q + i * 4, 4);
  }
}

}  // namespace

void tile_q8(const Q8Rows& rows, std::size_t n_rows, const Q8Tiles& tiles) {
  for (std::size_t r = 0; r < n_rows; r += kQ8TileRows) {
    const std::size_t h = n_rows - r < kQ8TileRows ? n_rows - r : kQ8TileRows;
    std::byte* tile = tiles.data + r * (tiles.n_cols / 32) * kQ8GroupBytes;
    for (std::size_t t = 0; t < h; ++t) tile_row(rows, r + t, h, t, tile);
  }
}

}  // namespace larder::simd
