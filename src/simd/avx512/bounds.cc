#include "simd/avx512/bounds.h"

#include <immintrin.h>

namespace larder::simd::avx512 {
namespace {

constexpr std::size_t kAhead = 8;     // blocks whose bounds are fetched before they are read
constexpr std::size_t kProducts = 4;  // that are summed together

__mmask16 lanes(std::size_t n) {
  return static_cast<__mmask16>(n >= 16 ? 0xffffU : (1U << n) - 1U);
}

__m512 load_bounds(const std::byte* part, std::size_t c, __mmask16 mask) {
  const __m256i halves =
      _mm256_maskz_loadu_epi16(mask, reinterpret_cast<const std::uint16_t*>(part) + c);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

__m512d as_pairs(__m512 v) { return _mm512_castps_pd(v); }

/// The sum of the lanes of each of four vectors, by the same tree.
__m128 sums_of_lanes(const __m512 (&v)[kProducts]) {
  const __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
  const __m512 b = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
  const __m512 low = _mm512_castpd_ps(_mm512_unpacklo_pd(as_pairs(a), as_pairs(b)));
  const __m512 high = _mm512_castpd_ps(_mm512_unpackhi_pd(as_pairs(a), as_pairs(b)));
  const __m512 all = _mm512_add_ps(low, high);
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

struct Queries {
  const float* q;       // the first of them
  std::size_t n, size;  // how many, and the numbers of each
  bool first;           // nobody has written to `out` yet
};

/// kQ queries at a time with 4 / kQ blocks; where there are fewer, the last one counts again.
template <std::size_t kQ>
void score(const Queries& queries, const KvRun& bounds, float* out) {
  constexpr std::size_t kBlocks = kProducts / kQ;
  const float* rows[kQ];
  for (std::size_t i = 0; i < kQ; ++i) {
    rows[i] = queries.q + (i < queries.n ? i : queries.n - 1) * queries.size;
  }
  for (std::size_t b = 0; b < bounds.n_blocks; b += kBlocks) {
    const std::byte* parts[kBlocks];
    for (std::size_t j = 0; j < kBlocks; ++j) {
      const std::size_t last = bounds.n_blocks - 1;
      parts[j] = bounds.parts[b + j < last ? b + j : last];
      if (b + j + kAhead > last) continue;
      const std::byte* ahead = bounds.parts[b + j + kAhead];
      for (std::size_t c = 0; c < 2 * queries.size; c += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(ahead + c), _MM_HINT_T0);
      }
    }
    __m512 sums[kProducts] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                              _mm512_setzero_ps()};
    for (std::size_t c = 0; c < queries.size; c += 16) {
      const __mmask16 mask = lanes(queries.size - c);
      __m512 x[kQ];
      for (std::size_t i = 0; i < kQ; ++i) x[i] = _mm512_maskz_loadu_ps(mask, rows[i] + c);
      for (std::size_t j = 0; j < kBlocks; ++j) {
        const __m512 bound = load_bounds(parts[j], c, mask);
        for (std::size_t i = 0; i < kQ; ++i) {
          sums[j * kQ + i] = _mm512_fmadd_ps(x[i], bound, sums[j * kQ + i]);
        }
      }
    }
    alignas(16) float products[kProducts];
    _mm_store_ps(products, sums_of_lanes(sums));
    for (std::size_t j = 0; j < kBlocks && b + j < bounds.n_blocks; ++j) {
      float most = queries.first ? products[j * kQ] : out[b + j];
      for (std::size_t i = 0; i < kQ; ++i) {
        if (products[j * kQ + i] > most) most = products[j * kQ + i];
      }
      out[b + j] = most;
    }
  }
}

}  // namespace

void bound_scores(const float* q, std::size_t n_q, const KvRun& bounds, std::size_t n, float* out) {
  for (std::size_t i = 0; i < n_q;) {
    const std::size_t left = n_q - i;
    const Queries queries{q + i * n, left < 4 ? left : 4, n, i == 0};
    if (left == 1) {
      score<1>(queries, bounds, out);
    } else if (left == 2) {
      score<2>(queries, bounds, out);
    } else {
      score<4>(queries, bounds, out);
    }
    i += queries.n;
  }
}

}  // namespace larder::simd::avx512
