#include <immintrin.h>

#include "simd/avx2/lanes.h"
#include "simd/avx2/primitives.h"

// Weights and activations lie along the lanes: lane j of an accumulator sums columns j, j + 8, ...
// in order and the lanes are added last, for every tile size alike.
namespace larder::simd::avx2 {
namespace {

constexpr int kTileRows = 4, kTileX = 3;  // 12 accumulators of 16 registers
constexpr std::size_t kPrefetchBytes = 1024;

struct F32 {
  static constexpr std::size_t bytes = 4;
  static __m256 load(const std::byte* p) {
    return _mm256_castsi256_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
};

struct F16 {
  static constexpr std::size_t bytes = 2;
  static __m256 load(const std::byte* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
};

struct BF16 {
  static constexpr std::size_t bytes = 2;
  static __m256 load(const std::byte* p) {
    const __m128i h = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
  }
};

/// The first n < 8 weights at p.
template <class W>
__m256 load_tail(const std::byte* p, std::size_t n) {
  std::byte lanes[8 * W::bytes] = {};
  std::memcpy(lanes, p, n * W::bytes);
  return W::load(lanes);
}

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
  __m256 sums[kRows][kX];
  for (auto& row : sums) {
    for (auto& sum : row) sum = _mm256_setzero_ps();
  }
  std::size_t c = 0;
  for (; c + 8 <= tile.n_cols; c += 8) {
    __m256 x[kX];
    for (int t = 0; t < kX; ++t) x[t] = _mm256_loadu_ps(tile.x + t * tile.n_cols + c);
    for (int r = 0; r < kRows; ++r) {
      const std::byte* p = tile.w + r * tile.row_bytes + c * W::bytes;
      if constexpr (kX == 1) {
        _mm_prefetch(reinterpret_cast<const char*>(p) + kPrefetchBytes, _MM_HINT_T0);
      }
      const __m256 w = W::load(p);
      for (int t = 0; t < kX; ++t) sums[r][t] = _mm256_fmadd_ps(w, x[t], sums[r][t]);
    }
  }
  if (c < tile.n_cols) {
    const std::size_t n = tile.n_cols - c;
    for (int r = 0; r < kRows; ++r) {
      const __m256 w = load_tail<W>(tile.w + r * tile.row_bytes + c * W::bytes, n);
      for (int t = 0; t < kX; ++t) {
        sums[r][t] = _mm256_fmadd_ps(w, load_first(tile.x + t * tile.n_cols + c, n), sums[r][t]);
      }
    }
  }
  for (int t = 0; t < kX; ++t) {
    for (int r = 0; r < kRows; ++r) tile.out[t * tile.ld_out + r] = sum_lanes(sums[r][t]);
  }
}

using Kernel = void (*)(const Tile&);
template <class W, int kRows>
constexpr Kernel kKernels[kTileX] = {multiply_tile<W, kRows, 1>, multiply_tile<W, kRows, 2>,
                                     multiply_tile<W, kRows, 3>};

template <class W>
void linear_float(const WeightRows& w, const float* x, std::size_t n_x, float* out,
                  std::size_t ld_out) {
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

}  // namespace larder::simd::avx2
