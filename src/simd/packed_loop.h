// The loop over packed weights (tensor/packed.h), shared by the sets with vectors. All templates
// depend on the set's `Kernels`, so that code compiled for one set is never linked into another.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simd/simd.h"

namespace larder::simd {

/// Some columns of one panel and of some rows of x.
template <class X>
struct PackedTile {
  const std::byte* panel;  // at the first of these columns
  std::size_t n_rows;      // of the panel that exist
  std::size_t n_groups;    // of columns
  X x;                     // at the first row and column
  bool is_first;           // sums begin here; else they continue from `out`
  float* out;
  std::size_t ld_out;
  // Asked for along the way: this many lines of 64 bytes for each group.
  const std::byte* next;
  std::size_t n_next_lines;
};

/// One tile of x may read so many streams of panels side by side: memory gives more to several that
/// are far apart than to one (decision 0027).
inline constexpr std::size_t kStreams = 4;
/// How far ahead their bytes are asked for, and those of panels that are read one by one.
inline constexpr std::size_t kStreamAheadBytes = 2048, kAheadBytes = 4096;

/// Whole panels, one of each stream, and a tile of x. Sums begin here.
template <class X>
struct PackedStreams {
  const std::byte* panel;  // of the first stream
  std::size_t apart;       // bytes from a stream's panel to the next one's
  std::size_t n_groups;
  X x;
  float* out;
  std::size_t out_apart;
  std::size_t ld_out;

  /// Where the sums of stream s go.
  PackedTile<X> tile(std::size_t s) const {
    return {panel, kPanelRows, n_groups, x, true, out + s * out_apart, ld_out, nullptr, 0};
  }
};

/// Beyond this many rows of x the multiplications take longer than reading the weights: then x is
/// kept near, a column chunk of it, while the panels pass.
inline constexpr std::size_t kManyX = 48;

/// Sums of all panels but those left over behind kStreams runs of as many. How many these were.
template <class Kernels>
std::size_t stream_panels(const PackedRows& w, const typename Kernels::X& x, std::size_t n_x,
                          float* out, std::size_t ld_out) {
  using Streams = PackedStreams<typename Kernels::X>;
  if constexpr (!requires(const Streams& some) { Kernels::run(some, n_x); }) {
    return 0;
  } else {
    const std::size_t n_groups = (w.n_cols + Kernels::kGroupCols - 1) / Kernels::kGroupCols;
    const std::size_t n_each = w.n_rows / kPanelRows / kStreams;
    const std::size_t bytes = n_groups * Kernels::kGroupBytes;
    for (std::size_t p = 0; p < n_each; ++p) {
      const std::size_t row = p * kPanelRows;
      Kernels::run(Streams{w.data + p * bytes, n_each * bytes, n_groups, x, out + row,
                           n_each * kPanelRows, ld_out},
                   n_x);
    }
    return n_each * kStreams;
  }
}

/// `Kernels` has: X (with `at(row, column)`), kX (rows of x in the largest tile), kGroupCols,
/// kGroupBytes, kChunkGroups (a chunk of a panel fits the first-level cache), and
/// run(tile, n_x <= kX); where the set reads streams, also run(streams, n_x <= kX).
template <class Kernels>
void packed_loop(const PackedRows& w, const typename Kernels::X& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  constexpr std::size_t kX = Kernels::kX, kLines = Kernels::kGroupBytes / 64;
  const std::size_t n_groups = (w.n_cols + Kernels::kGroupCols - 1) / Kernels::kGroupCols;
  const std::size_t n_panels = (w.n_rows + kPanelRows - 1) / kPanelRows;
  const std::size_t n_tiles = (n_x + kX - 1) / kX;
  const bool many = n_x > kManyX;
  // A few rows of x: panels are streamed. Some: a chunk stays in the first-level cache until all
  // tiles have used it. Many: longer ones, from the second level, because going on with sums from
  // `out`, whose rows lie far apart, costs more (1.1x).
  const std::size_t chunk = n_tiles == 1 ? n_groups : Kernels::kChunkGroups * (many ? 4 : 1);
  const std::size_t panels_at_once = many ? n_panels : 1;
  const std::size_t n_streamed = n_tiles == 1 ? stream_panels<Kernels>(w, x, n_x, out, ld_out) : 0;
  for (std::size_t first = n_streamed; first < n_panels; first += panels_at_once) {
    for (std::size_t g = 0; g < n_groups; g += chunk) {
      const std::size_t some = n_groups - g < chunk ? n_groups - g : chunk;
      for (std::size_t p = first; p < first + panels_at_once; ++p) {
        const std::size_t n_left = w.n_rows - p * kPanelRows;
        const std::byte* panel = w.data + (p * n_groups + g) * Kernels::kGroupBytes;
        PackedTile<typename Kernels::X> tile{panel,  n_left < kPanelRows ? n_left : kPanelRows,
                                             some,   x,
                                             g == 0, nullptr,
                                             ld_out, panel + kAheadBytes,
                                             kLines};
        if (n_tiles > 1) {  // the tiles share the work of asking for the next chunk
          tile.next = panel + some * Kernels::kGroupBytes;
          tile.n_next_lines = many ? 0 : (kLines + n_tiles - 1) / n_tiles;
        }
        for (std::size_t t = 0; t < n_x; t += kX) {
          tile.x = x.at(t, g * Kernels::kGroupCols);
          tile.out = out + t * ld_out + p * kPanelRows;
          if (t + kX < n_x) {  // rows of `out` lie far apart, mostly in pages of their own
            const float* next_out = tile.out + kX * ld_out;
            const std::size_t n_next = n_x - t - kX < kX ? n_x - t - kX : kX;
            for (std::size_t i = 0; i < n_next; ++i) {
              __builtin_prefetch(next_out + i * ld_out, 1);
              __builtin_prefetch(next_out + i * ld_out + 16, 1);
            }
          }
          Kernels::run(tile, n_x - t < kX ? n_x - t : kX);
          if (n_tiles > 1) tile.next += some * tile.n_next_lines * 64;
          if (tile.next >= panel + 2 * some * Kernels::kGroupBytes) tile.n_next_lines = 0;
        }
      }
    }
  }
}

}  // namespace larder::simd
