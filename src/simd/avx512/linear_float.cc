#include <immintrin.h>

#include "simd/avx512/primitives.h"

// Weights and activations lie along the lanes: lane j of an accumulator sums columns j, j + 16, ...
// in order and the lanes are added last, for every tile size alike.
namespace larder::simd::avx512 {
namespace {

constexpr int kTileRows = 4, kTileX = 6;  // 24 accumulators, and one load per 2.4 multiplications
// One row of x leaves the loop bound by memory: ask for weights this far ahead.
constexpr std::size_t kPrefetchBytes = 1024;

struct F32 {
  static constexpr std::size_t bytes = 4;
  static __m512 load(const std::byte* p) { return _mm512_loadu_ps(p); }
  static __m512 load(const std::byte* p, __mmask16 m) { return _mm512_maskz_loadu_ps(m, p); }
};

struct F16 {
  static constexpr std::size_t bytes = 2;
  static __m512 load(const std::byte* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static __m512 load(const std::byte* p, __mmask16 m) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, p));
  }
};

struct BF16 {
  static constexpr std::size_t bytes = 2;
  static __m512 widen(__m256i h) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
  }
  static __m512 load(const std::byte* p) {
    return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static __m512 load(const std::byte* p, __mmask16 m) {
    return widen(_mm256_maskz_loadu_epi16(m, p));
  }
};

struct Tile {
  const std::byte* w;  // first weight row
  std::size_t row_bytes;
  const float* x;  // first row of x
  std::size_t n_cols;
  float* out;
  std::size_t ld_out;
};

template <class W, int kRows, int kX>
void multiply_tile(const Tile& tile) {
  __m512 sums[kRows][kX];
  for (auto& row : sums) {
    for (auto& sum : row) sum = _mm512_setzero_ps();
  }
  const auto add = [&](const __m512(&w)[kRows], const __m512(&x)[kX]) {
    for (int r = 0; r < kRows; ++r) {
      for (int t = 0; t < kX; ++t) sums[r][t] = _mm512_fmadd_ps(w[r], x[t], sums[r][t]);
    }
  };
  std::size_t c = 0;
  for (; c + 16 <= tile.n_cols; c += 16) {
    __m512 w[kRows], x[kX];
    for (int r = 0; r < kRows; ++r) {
      const std::byte* p = tile.w + r * tile.row_bytes + c * W::bytes;
      if constexpr (kX == 1) {
        _mm_prefetch(reinterpret_cast<const char*>(p) + kPrefetchBytes, _MM_HINT_T0);
      }
      w[r] = W::load(p);
    }
    for (int t = 0; t < kX; ++t) x[t] = _mm512_loadu_ps(tile.x + t * tile.n_cols + c);
    add(w, x);
  }
  if (c < tile.n_cols) {
    const auto tail = static_cast<__mmask16>((1U << (tile.n_cols - c)) - 1U);
    __m512 w[kRows], x[kX];
    for (int r = 0; r < kRows; ++r) {
      w[r] = W::load(tile.w + r * tile.row_bytes + c * W::bytes, tail);
    }
    for (int t = 0; t < kX; ++t) x[t] = _mm512_maskz_loadu_ps(tail, tile.x + t * tile.n_cols + c);
    add(w, x);
  }
  for (int t = 0; t < kX; ++t) {
    for (int r = 0; r < kRows; ++r) {
      tile.out[t * tile.ld_out + r] = _mm512_reduce_add_ps(sums[r][t]);
    }
  }
}

using Kernel = void (*)(const Tile&);
template <class W, int kRows>
constexpr Kernel kKernels[kTileX] = {multiply_tile<W, kRows, 1>, multiply_tile<W, kRows, 2>,
                                     multiply_tile<W, kRows, 3>, multiply_tile<W, kRows, 4>,
                                     multiply_tile<W, kRows, 5>, multiply_tile<W, kRows, 6>};

template <class W>
void linear_float(const WeightRows& w, const float* x, std::size_t n_x, float* out,
                  std::size_t ld_out) {
  // Six rows of x stay in the nearer caches while all rows of the task pass.
  for (std::size_t t = 0; t < n_x; t += kTileX) {
    const std::size_t n = n_x - t < kTileX ? n_x - t : kTileX;
    Tile tile{w.data, w.row_bytes, x + t * w.n_cols, w.n_cols, out + t * ld_out, ld_out};
    std::size_t r = 0;
    const auto advance = [&](std::size_t n_rows) {
      tile.w += n_rows * w.row_bytes;
      tile.out += n_rows;
      r += n_rows;
    };
    for (; r + kTileRows <= w.n_rows; advance(kTileRows)) kKernels<W, kTileRows>[n - 1](tile);
    for (; r < w.n_rows; advance(1)) kKernels<W, 1>[n - 1](tile);
  }
}

}  // namespace

void linear_f32(const WeightRows& w, const float* x, std::size_t n_x, float* out,
                std::size_t ld_out) {
  linear_float<F32>(w, x, n_x, out, ld_out);
}

void linear_f16(const WeightRows& w, const float* x, std::size_t n_x, float* out,
                std::size_t ld_out) {
  linear_float<F16>(w, x, n_x, out, ld_out);
}

void linear_bf16(const WeightRows& w, const float* x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  linear_float<BF16>(w, x, n_x, out, ld_out);
}

}  // namespace larder::simd::avx512
