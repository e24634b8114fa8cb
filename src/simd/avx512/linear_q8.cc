#include "simd/avx512/primitives.h"
#include "simd/avx512/vectors.h"
#include "simd/panel_formats.h"

// VNNI multiplies unsigned by signed bytes: codes stay unsigned and the sum starts at minus
// offset * sum(x). Everything up to the scales is exact integer arithmetic.
namespace larder::simd::avx512 {
namespace {

using V = Vectors;
using Tile = PanelTile<V>;

__m512i broadcast4(const std::int8_t* p) {
  int four = 0;
  std::memcpy(&four, p, sizeof four);
  return _mm512_set1_epi32(four);
}

template <int kPanels, int kX, std::size_t kGroup, bool kMin>
void multiply_tile(const Tile& tile) {
  constexpr std::size_t kGroups = 32 / kGroup;  // per block of x
  const Corrections<V, kX, kGroup, kMin> corrections(tile);
  __mmask16 rows[kPanels];
  __m512 out[kPanels][kX];
  for (int p = 0; p < kPanels; ++p) {
    const std::size_t n_left = tile.n_rows - static_cast<std::size_t>(p) * V::kRows;
    rows[p] = static_cast<__mmask16>(n_left < V::kRows ? (1U << n_left) - 1U : 0xffffU);
    for (int t = 0; t < kX; ++t) {
      out[p][t] = tile.first_col == 0 ? _mm512_setzero_ps()
                                      : _mm512_maskz_loadu_ps(rows[p], tile.out_at(t, p));
    }
  }
  for (std::size_t g = 0; g < tile.n_cols / kGroup; ++g) {
    __m512i sums[kPanels][kX];
    for (int t = 0; t < kX; ++t) {
      const __m512i start =
          kMin ? _mm512_setzero_si512() : _mm512_set1_epi32(corrections.start[t][g]);
      for (int p = 0; p < kPanels; ++p) sums[p][t] = start;
    }
    const std::size_t first = g * (kGroup / 4);
// GCC 12 copies every accumulator twice around a loop that it keeps: 1.25x slower.
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kGroup / 4; ++i) {
      __m512i w[kPanels];
      for (int p = 0; p < kPanels; ++p) w[p] = _mm512_load_si512(tile.panels[p].codes[first + i]);
      for (int t = 0; t < kX; ++t) {
        const __m512i x = broadcast4(tile.x_row(t) + (first + i) * 4);
        for (int p = 0; p < kPanels; ++p) sums[p][t] = _mm512_dpbusd_epi32(sums[p][t], w[p], x);
      }
    }
    for (int p = 0; p < kPanels; ++p) {
      const __m512 w_scale = _mm512_load_ps(tile.panels[p].scales[g]);
      for (int t = 0; t < kX; ++t) {
        const __m512 x_scale = _mm512_set1_ps(tile.x_scales(t)[g / kGroups]);
        out[p][t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[p][t]), _mm512_mul_ps(w_scale, x_scale),
                                    out[p][t]);
        if constexpr (kMin) {
          out[p][t] = _mm512_fnmadd_ps(_mm512_load_ps(tile.panels[p].mins[g]),
                                       _mm512_set1_ps(corrections.x_min[t][g]), out[p][t]);
        }
      }
    }
  }
  for (int p = 0; p < kPanels; ++p) {
    for (int t = 0; t < kX; ++t) _mm512_mask_storeu_ps(tile.out_at(t, p), rows[p], out[p][t]);
  }
}

struct Kernels {
  static constexpr std::size_t kPanels = 2, kX = 6;  // 12 integer and 12 float accumulators
  using Kernel = void (*)(const Tile&);

  template <std::size_t kGroup, bool kMin>
  static constexpr Kernel kAll[kPanels][kX] = {
      {multiply_tile<1, 1, kGroup, kMin>, multiply_tile<1, 2, kGroup, kMin>,
       multiply_tile<1, 3, kGroup, kMin>, multiply_tile<1, 4, kGroup, kMin>,
       multiply_tile<1, 5, kGroup, kMin>, multiply_tile<1, 6, kGroup, kMin>},
      {multiply_tile<2, 1, kGroup, kMin>, multiply_tile<2, 2, kGroup, kMin>,
       multiply_tile<2, 3, kGroup, kMin>, multiply_tile<2, 4, kGroup, kMin>,
       multiply_tile<2, 5, kGroup, kMin>, multiply_tile<2, 6, kGroup, kMin>}};

  template <class Format>
  static void run(const Tile& tile, std::size_t n_panels, std::size_t n_x) {
    kAll<Format::group, Format::has_min>[n_panels - 1][n_x - 1](tile);
  }
};

}  // namespace

void linear_q8_0(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  linear_panels<V, Q8_0<V>, Kernels>(w, x, n_x, out, ld_out);
}

void linear_q4_0(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  linear_panels<V, Nibbles32<V, 4, false>, Kernels>(w, x, n_x, out, ld_out);
}

void linear_q4_1(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  linear_panels<V, Nibbles32<V, 4, true>, Kernels>(w, x, n_x, out, ld_out);
}

void linear_q5_0(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  linear_panels<V, Nibbles32<V, 5, false>, Kernels>(w, x, n_x, out, ld_out);
}

void linear_q5_1(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  linear_panels<V, Nibbles32<V, 5, true>, Kernels>(w, x, n_x, out, ld_out);
}

void linear_q4_k(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  linear_panels<V, NibblesK<V, 4>, Kernels>(w, x, n_x, out, ld_out);
}

void linear_q5_k(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  linear_panels<V, NibblesK<V, 5>, Kernels>(w, x, n_x, out, ld_out);
}

void linear_q6_k(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  linear_panels<V, Q6_K<V>, Kernels>(w, x, n_x, out, ld_out);
}

}  // namespace larder::simd::avx512
