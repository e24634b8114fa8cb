// Linear layers over quantised weights for the sets with vectors: unpack a panel of rows, multiply
// it with every row of x. Shared by the sets, which supply a type `V` of their instructions (below)
// and the inner kernels. All templates depend on V, so that code compiled for one set is never
// linked into another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "simd/simd.h"

// V has: Ints, Floats (vectors of kRows 32-bit lanes); kRows; kSignedBytes (the kernels take 8-bit
// codes signed); bytes(v), dwords(v) (one value in all bytes or lanes); shift_left, shift_right
// (each 16-bit word), shift_down (each lane); to_floats; low_f16, high_f16 (of each lane);
// byte_sign (byte i of each lane, sign extended); fifth_bits; load_column, load_columns (transpose
// kRows pieces of 4 or 16 bytes at a stride); store.
namespace larder::simd {

inline constexpr std::size_t kChunkCols = 512;  // panels and their x fit the first-level cache

/// Lanes are weight rows, so sums need no shuffling and a token's result has one order of additions
/// whatever is computed beside it. A weight is scale * (code - offset of the format) - min.
template <class V>
struct alignas(64) Panel {
  std::uint8_t codes[kChunkCols / 4][V::kRows][4];  // four columns of a row side by side
  float scales[kChunkCols / 16][V::kRows];          // per group of 32 (or 16) columns
  float mins[kChunkCols / 32][V::kRows];            // formats with a minimum only
};

/// V::kRows rows of one format, from some block on, and the bytes that will be read after them.
struct PanelSource {
  const std::uint8_t* data;  // row r begins at data + r * stride
  std::size_t stride;
  std::size_t n_cols;  // at most kChunkCols
  const std::uint8_t* next;
};

/// Asks for part `i` of `n` of the next chunk, so that the requests spread over the unpacking.
template <class V>
void prefetch_part(const PanelSource& source, std::size_t row_bytes, std::size_t i, std::size_t n) {
  for (std::size_t r = i * V::kRows / n; r < (i + 1) * V::kRows / n; ++r) {
    for (std::size_t b = 0; b < row_bytes; b += 64) {
      __builtin_prefetch(source.next + r * source.stride + b);
    }
  }
}

/// Columns [first_col, first_col + n_cols) of some panels and of some rows of x.
template <class V>
struct PanelTile {
  const Panel<V>* panels;
  std::size_t n_rows;    // that exist; the last panel may be cut
  int offset;            // of the format
  const std::int8_t* q;  // of the first row of x at first_col; row stride x_cols
  const float* scales;
  const std::int32_t* sums;
  std::size_t x_cols;
  std::size_t first_col, n_cols;
  float* out;  // continued from chunk to chunk
  std::size_t ld_out;

  const std::int8_t* x_row(int t) const { return q + static_cast<std::size_t>(t) * x_cols; }
  const float* x_scales(int t) const {
    return scales + static_cast<std::size_t>(t) * (x_cols / 32);
  }
  const std::int32_t* x_sums(int t) const {
    return sums + static_cast<std::size_t>(t) * (x_cols / 16);
  }
  float* out_at(int t, int panel) const {
    return out + static_cast<std::size_t>(t) * ld_out + static_cast<std::size_t>(panel) * V::kRows;
  }
};

/// What the offset or the minimum of a format contributes, per row of x: for groups of `kGroup`
/// columns either the start of the integer sum, or the factor of `mins`.
template <class V, int kX, std::size_t kGroup, bool kMin>
struct Corrections {
  std::int32_t start[kX][kChunkCols / kGroup];
  float x_min[kX][kChunkCols / 32];

  explicit Corrections(const PanelTile<V>& tile) {
    for (int t = 0; t < kX; ++t) {
      const std::int32_t* sums = tile.x_sums(t);
      const float* scales = tile.x_scales(t);
      for (std::size_t b = 0; b < tile.n_cols / 32; ++b) {
        const std::int32_t low = sums[2 * b], high = sums[2 * b + 1];
        if constexpr (kMin) {
          x_min[t][b] = scales[b] * static_cast<float>(low + high);
        } else if constexpr (kGroup == 32) {
          start[t][b] = -tile.offset * (low + high);
        } else {
          start[t][2 * b] = -tile.offset * low;
          start[t][2 * b + 1] = -tile.offset * high;
        }
      }
    }
  }
};

/// Unpacks `n_rows` (at most V::kRows) rows; missing ones become zeros.
template <class V, class Format>
void unpack_panel(PanelSource source, std::size_t n_rows, Panel<V>& panel) {
  if (n_rows == V::kRows) return Format::unpack(source, panel);
  constexpr std::size_t kMaxBytes = kChunkCols / Format::block_elems * Format::block_bytes;
  std::uint8_t rows[V::kRows][kMaxBytes] = {};
  const std::size_t bytes = source.n_cols / Format::block_elems * Format::block_bytes;
  for (std::size_t r = 0; r < n_rows; ++r) {
    std::memcpy(rows[r], source.data + r * source.stride, bytes);
  }
  source.data = rows[0];
  source.stride = kMaxBytes;
  source.next = rows[0];
  Format::unpack(source, panel);
}

/// The loop over panels, chunks and rows of x. `Kernels` is the set's: kPanels and kX, the largest
/// tile, and `run<Format>(tile, n_panels, n_x)`.
template <class V, class Format, class Kernels>
void linear_panels(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                   std::size_t ld_out) {
  constexpr std::size_t kRows = Kernels::kPanels * V::kRows, kX = Kernels::kX;
  const auto bytes_of = [](std::size_t n) { return n / Format::block_elems * Format::block_bytes; };
  const auto* data = reinterpret_cast<const std::uint8_t*>(w.data);
  Panel<V> panels[Kernels::kPanels];
  for (std::size_t r = 0; r < w.n_rows; r += kRows) {
    const std::size_t n_rows = w.n_rows - r < kRows ? w.n_rows - r : kRows;
    const std::size_t n_panels = (n_rows + V::kRows - 1) / V::kRows;
    for (std::size_t c = 0; c < w.n_cols; c += kChunkCols) {
      const std::size_t n_cols = w.n_cols - c < kChunkCols ? w.n_cols - c : kChunkCols;
      for (std::size_t p = 0; p < n_panels; ++p) {
        const std::size_t n_left = n_rows - p * V::kRows;
        const std::uint8_t* rows = data + (r + p * V::kRows) * w.row_bytes;
        // After the last columns come the first ones of the rows below.
        const std::uint8_t* next =
            c + n_cols == w.n_cols ? rows + kRows * w.row_bytes : rows + bytes_of(c + n_cols);
        unpack_panel<V, Format>({rows + bytes_of(c), w.row_bytes, n_cols, next},
                                n_left < V::kRows ? n_left : V::kRows, panels[p]);
      }
      PanelTile<V> tile{panels,   n_rows, Format::offset, nullptr, nullptr, nullptr,
                        x.n_cols, c,      n_cols,         nullptr, ld_out};
      for (std::size_t t = 0; t < n_x; t += kX) {
        tile.q = x.q + t * x.n_cols + c;
        tile.scales = x.scales + (t * x.n_cols + c) / 32;
        tile.sums = x.sums + (t * x.n_cols + c) / 16;
        tile.out = out + t * ld_out + r;
        Kernels::template run<Format>(tile, n_panels, n_x - t < kX ? n_x - t : kX);
      }
    }
  }
}

}  // namespace larder::simd
