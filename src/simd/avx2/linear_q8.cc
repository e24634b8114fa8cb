#include "simd/avx2/lanes.h"
#include "simd/avx2/primitives.h"
#include "simd/avx2/vectors.h"
#include "simd/panel_formats.h"

// vpmaddubsw multiplies unsigned by signed bytes and adds neighbours into 16 bits, saturating. With
// |x| <= 127 and codes below 2^bits the 16-bit sums cannot overflow for `kSteps` instructions,
// after which they are widened. Eight-bit weights are signed: their magnitude (at most 128) is
// multiplied with x carrying their sign.
namespace larder::simd::avx2 {
namespace {

using V = Vectors;
using Tile = PanelTile<V>;

constexpr int steps_of(int bits) { return bits == 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1; }
static_assert(8 * 2 * 15 * 127 < 32768 && 4 * 2 * 31 * 127 < 32768 && 2 * 2 * 63 * 127 < 32768 &&
              1 * 2 * 128 * 127 < 32768);

__m256i broadcast4(const std::int8_t* p) {
  int four = 0;
  std::memcpy(&four, p, sizeof four);
  return _mm256_set1_epi32(four);
}

template <int kBits>
__m256i multiply_bytes(__m256i w, __m256i x) {
  if constexpr (kBits < 8) return _mm256_maddubs_epi16(w, x);
  return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
}

/// sums[t] += the products of the codes of group g, over all four columns of a lane. Forced inline:
/// a call would keep the accumulators in memory.
template <int kX, std::size_t kGroup, int kBits>
[[gnu::always_inline]] inline void add_products(const Tile& tile, std::size_t g,
                                                __m256i (&sums)[kX]) {
  constexpr std::size_t kSteps = steps_of(kBits);
  const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 8
  for (std::size_t i = 0; i < kGroup / 4; i += kSteps) {
    __m256i narrow[kX];
#pragma GCC unroll 8
    for (std::size_t step = i; step < i + kSteps; ++step) {
      const std::size_t quad = g * (kGroup / 4) + step;
      const __m256i w =
          _mm256_load_si256(reinterpret_cast<const __m256i*>(tile.panels[0].codes[quad]));
      for (int t = 0; t < kX; ++t) {
        const __m256i product = multiply_bytes<kBits>(w, broadcast4(tile.x_row(t) + quad * 4));
        narrow[t] = step == i ? product : _mm256_add_epi16(narrow[t], product);
        // GCC would turn the chain of sums into a tree and spill its leaves.
        __asm__("" : "+x"(narrow[t]));
      }
    }
    for (int t = 0; t < kX; ++t) {
      sums[t] = _mm256_add_epi32(sums[t], _mm256_madd_epi16(narrow[t], ones));
    }
  }
}

template <int kX, std::size_t kGroup, bool kMin, int kBits>
void multiply_tile(const Tile& tile) {
  constexpr std::size_t kGroups = 32 / kGroup;  // per block of x
  const Corrections<V, kX, kGroup, kMin> corrections(tile);
  const std::size_t n_rows = tile.n_rows;
  __m256 out[kX];
  for (int t = 0; t < kX; ++t) {
    out[t] = tile.first_col == 0  ? _mm256_setzero_ps()
             : n_rows == V::kRows ? _mm256_loadu_ps(tile.out_at(t, 0))
                                  : load_first(tile.out_at(t, 0), n_rows);
  }
  for (std::size_t g = 0; g < tile.n_cols / kGroup; ++g) {
    __m256i sums[kX];
    for (int t = 0; t < kX; ++t) {
      sums[t] = kMin ? _mm256_setzero_si256() : _mm256_set1_epi32(corrections.start[t][g]);
    }
    add_products<kX, kGroup, kBits>(tile, g, sums);
    const __m256 w_scale = _mm256_load_ps(tile.panels[0].scales[g]);
    for (int t = 0; t < kX; ++t) {
      const __m256 x_scale = _mm256_set1_ps(tile.x_scales(t)[g / kGroups]);
      out[t] =
          _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[t]), _mm256_mul_ps(w_scale, x_scale), out[t]);
      if constexpr (kMin) {
        out[t] = _mm256_fnmadd_ps(_mm256_load_ps(tile.panels[0].mins[g]),
                                  _mm256_set1_ps(corrections.x_min[t][g]), out[t]);
      }
    }
  }
  for (int t = 0; t < kX; ++t) {
    if (n_rows == V::kRows) {
      _mm256_storeu_ps(tile.out_at(t, 0), out[t]);
    } else {
      store_first(tile.out_at(t, 0), out[t], n_rows);
    }
  }
}

struct Kernels {
  static constexpr std::size_t kPanels = 1, kX = 4;  // 4 narrow, 4 wide, 4 float accumulators
  using Kernel = void (*)(const Tile&);

  template <std::size_t kGroup, bool kMin, int kBits>
  static constexpr Kernel kAll[kX] = {
      multiply_tile<1, kGroup, kMin, kBits>, multiply_tile<2, kGroup, kMin, kBits>,
      multiply_tile<3, kGroup, kMin, kBits>, multiply_tile<4, kGroup, kMin, kBits>};

  template <class Format>
  static void run(const Tile& tile, std::size_t, std::size_t n_x) {
    kAll<Format::group, Format::has_min, Format::bits>[n_x - 1](tile);
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

}  // namespace larder::simd::avx2
