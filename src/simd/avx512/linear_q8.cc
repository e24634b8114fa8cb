#include "simd/avx512/panel.h"
#include "simd/avx512/panel_formats.h"
#include "simd/avx512/primitives.h"

// Weights are unpacked a panel at a time (sixteen rows, 512 columns) and multiplied with all rows
// of x by VNNI, which multiplies unsigned by signed bytes: codes stay unsigned and the sum starts
// at minus offset * sum(x). Everything up to the scales is exact integer arithmetic.
namespace larder::simd::avx512 {
namespace {

constexpr int kTilePanels = 2, kTileX = 6;  // 12 integer and 12 float accumulators

/// Columns [first_col, first_col + n_cols) of two panels and of some rows of x.
struct Tile {
  const Panel* panels;
  __mmask16 rows[kTilePanels];  // rows that exist
  int offset;                   // of the format
  const std::int8_t* q;         // of the first row of x at first_col; row stride x_cols
  const float* scales;
  const std::int32_t* sums;
  std::size_t x_cols;
  std::size_t first_col, n_cols;
  float* out;  // continued from chunk to chunk
  std::size_t ld_out;
};

inline __m512i broadcast4(const std::int8_t* p) {
  int four = 0;
  std::memcpy(&four, p, sizeof four);
  return _mm512_set1_epi32(four);
}

template <int kPanels, int kX, std::size_t kGroup, bool kMin>
void multiply_tile(const Tile& tile) {
  constexpr std::size_t kGroups = 32 / kGroup;  // per block of x
  std::int32_t start[kX][kChunkCols / kGroup];
  float x_min[kX][kChunkCols / 32];
  const std::size_t n_blocks = tile.n_cols / 32;
  for (int t = 0; t < kX; ++t) {
    const std::int32_t* sums = tile.sums + t * (tile.x_cols / 16);
    const float* scales = tile.scales + t * (tile.x_cols / 32);
    for (std::size_t b = 0; b < n_blocks; ++b) {
      const std::int32_t low = sums[2 * b], high = sums[2 * b + 1];
      if constexpr (kMin) x_min[t][b] = scales[b] * static_cast<float>(low + high);
      if constexpr (!kMin && kGroups == 1) start[t][b] = -tile.offset * (low + high);
      if constexpr (!kMin && kGroups == 2) {
        start[t][2 * b] = -tile.offset * low;
        start[t][2 * b + 1] = -tile.offset * high;
      }
    }
  }
  __m512 out[kPanels][kX];
  for (int p = 0; p < kPanels; ++p) {
    for (int t = 0; t < kX; ++t) {
      out[p][t] = tile.first_col == 0
                      ? _mm512_setzero_ps()
                      : _mm512_maskz_loadu_ps(tile.rows[p], tile.out + t * tile.ld_out + p * 16);
    }
  }
  for (std::size_t g = 0; g < n_blocks * kGroups; ++g) {
    const std::size_t b = g / kGroups;
    __m512i sums[kPanels][kX];
    for (int t = 0; t < kX; ++t) {
      const __m512i first = kMin ? _mm512_setzero_si512() : _mm512_set1_epi32(start[t][g]);
      for (int p = 0; p < kPanels; ++p) sums[p][t] = first;
    }
    for (std::size_t i = g * (kGroup / 4); i < (g + 1) * (kGroup / 4); ++i) {
      __m512i w[kPanels];
      for (int p = 0; p < kPanels; ++p) w[p] = _mm512_load_si512(tile.panels[p].codes[i]);
      for (int t = 0; t < kX; ++t) {
        const __m512i x = broadcast4(tile.q + t * tile.x_cols + i * 4);
        for (int p = 0; p < kPanels; ++p) sums[p][t] = _mm512_dpbusd_epi32(sums[p][t], w[p], x);
      }
    }
    for (int p = 0; p < kPanels; ++p) {
      const __m512 w_scale = _mm512_load_ps(tile.panels[p].scales[g]);
      for (int t = 0; t < kX; ++t) {
        const __m512 x_scale = _mm512_set1_ps(tile.scales[t * (tile.x_cols / 32) + b]);
        out[p][t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[p][t]), _mm512_mul_ps(w_scale, x_scale),
                                    out[p][t]);
        if constexpr (kMin) {
          out[p][t] = _mm512_fnmadd_ps(_mm512_load_ps(tile.panels[p].mins[b]),
                                       _mm512_set1_ps(x_min[t][b]), out[p][t]);
        }
      }
    }
  }
  for (int p = 0; p < kPanels; ++p) {
    for (int t = 0; t < kX; ++t) {
      _mm512_mask_storeu_ps(tile.out + t * tile.ld_out + p * 16, tile.rows[p], out[p][t]);
    }
  }
}

using Kernel = void (*)(const Tile&);
template <std::size_t kGroup, bool kMin>
constexpr Kernel kKernels[kTilePanels][kTileX] = {
    {multiply_tile<1, 1, kGroup, kMin>, multiply_tile<1, 2, kGroup, kMin>,
     multiply_tile<1, 3, kGroup, kMin>, multiply_tile<1, 4, kGroup, kMin>,
     multiply_tile<1, 5, kGroup, kMin>, multiply_tile<1, 6, kGroup, kMin>},
    {multiply_tile<2, 1, kGroup, kMin>, multiply_tile<2, 2, kGroup, kMin>,
     multiply_tile<2, 3, kGroup, kMin>, multiply_tile<2, 4, kGroup, kMin>,
     multiply_tile<2, 5, kGroup, kMin>, multiply_tile<2, 6, kGroup, kMin>}};

/// Unpacks `n_rows` (at most sixteen) rows; missing ones become zeros.
template <class Format>
void unpack_panel(PanelSource source, std::size_t n_rows, Panel& panel) {
  if (n_rows == kPanelRows) return Format::unpack(source, panel);
  constexpr std::size_t kMaxBytes = kChunkCols / Format::block_elems * Format::block_bytes;
  std::uint8_t rows[kPanelRows][kMaxBytes] = {};
  const std::size_t bytes = source.n_cols / Format::block_elems * Format::block_bytes;
  for (std::size_t r = 0; r < n_rows; ++r) {
    std::memcpy(rows[r], source.data + r * source.stride, bytes);
  }
  source.data = rows[0];
  source.stride = kMaxBytes;
  source.next = rows[0];
  Format::unpack(source, panel);
}

template <class Format>
void linear_q8(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
               std::size_t ld_out) {
  constexpr std::size_t kRows = kTilePanels * kPanelRows;
  const auto* data = reinterpret_cast<const std::uint8_t*>(w.data);
  Panel panels[kTilePanels];
  for (std::size_t r = 0; r < w.n_rows; r += kRows) {
    const std::size_t n_rows = w.n_rows - r < kRows ? w.n_rows - r : kRows;
    const std::size_t n_panels = (n_rows + kPanelRows - 1) / kPanelRows;
    for (std::size_t c = 0; c < w.n_cols; c += kChunkCols) {
      const std::size_t n_cols = w.n_cols - c < kChunkCols ? w.n_cols - c : kChunkCols;
      const bool last = c + n_cols == w.n_cols;
      Tile tile{};
      for (std::size_t p = 0; p < n_panels; ++p) {
        const std::size_t n_left = n_rows - p * kPanelRows;
        const std::size_t n_here = n_left < kPanelRows ? n_left : kPanelRows;
        const std::uint8_t* rows = data + (r + p * kPanelRows) * w.row_bytes;
        const std::size_t at = c / Format::block_elems * Format::block_bytes;
        const std::size_t ahead = n_cols / Format::block_elems * Format::block_bytes;
        const std::uint8_t* next = last ? rows + kRows * w.row_bytes : rows + at + ahead;
        unpack_panel<Format>({rows + at, w.row_bytes, n_cols, next}, n_here, panels[p]);
        tile.rows[p] = static_cast<__mmask16>((1U << n_here) - 1U);
      }
      tile.panels = panels;
      tile.offset = Format::offset;
      tile.x_cols = x.n_cols;
      tile.first_col = c;
      tile.n_cols = n_cols;
      tile.ld_out = ld_out;
      for (std::size_t t = 0; t < n_x; t += kTileX) {
        tile.q = x.q + t * x.n_cols + c;
        tile.scales = x.scales + (t * x.n_cols + c) / 32;
        tile.sums = x.sums + (t * x.n_cols + c) / 16;
        tile.out = out + t * ld_out + r;
        const std::size_t n = n_x - t < kTileX ? n_x - t : kTileX;
        kKernels<Format::group, Format::has_min>[n_panels - 1][n - 1](tile);
      }
    }
  }
}

}  // namespace

void linear_q8_0(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  linear_q8<Q8_0>(w, x, n_x, out, ld_out);
}

void linear_q4_0(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  linear_q8<Nibbles32<4, false>>(w, x, n_x, out, ld_out);
}

void linear_q4_1(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  linear_q8<Nibbles32<4, true>>(w, x, n_x, out, ld_out);
}

void linear_q5_0(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  linear_q8<Nibbles32<5, false>>(w, x, n_x, out, ld_out);
}

void linear_q5_1(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  linear_q8<Nibbles32<5, true>>(w, x, n_x, out, ld_out);
}

void linear_q4_k(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  linear_q8<NibblesK<4>>(w, x, n_x, out, ld_out);
}

void linear_q5_k(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  linear_q8<NibblesK<5>>(w, x, n_x, out, ld_out);
}

void linear_q6_k(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  linear_q8<Q6_K>(w, x, n_x, out, ld_out);
}

}  // namespace larder::simd::avx512
