#include "simd/avx2/bounds.h"

#include <immintrin.h>

#include <cstring>

namespace larder::simd::avx2 {
namespace {

constexpr std::size_t kAhead = 8;    // blocks whose bounds are fetched before they are read
constexpr std::size_t kQueries = 4;  // that meet a block together

float bound_at(const std::byte* part, std::size_t c) {
  std::uint16_t half = 0;
  std::memcpy(&half, part + c * sizeof half, sizeof half);
  const std::uint32_t bits = static_cast<std::uint32_t>(half) << 16;
  float value = 0;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

__m256 load_bounds(const std::byte* part, std::size_t c) {
  const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(part + 2 * c));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

/// The sum of the lanes of each of four vectors, by the same tree.
__m128 sums_of_lanes(const __m256 (&v)[kQueries]) {
  const __m256 all = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
  return _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
}

/// Of up to kQueries queries with one block: the last one counts again where there are fewer.
float best_product(const float* q, std::size_t n_q, const std::byte* part, std::size_t n) {
  const float* rows[kQueries];
  __m256 sums[kQueries];
  for (std::size_t i = 0; i < kQueries; ++i) {
    rows[i] = q + (i < n_q ? i : n_q - 1) * n;
    sums[i] = _mm256_setzero_ps();
  }
  std::size_t c = 0;
  for (; c + 8 <= n; c += 8) {
    const __m256 bound = load_bounds(part, c);
    for (std::size_t i = 0; i < kQueries; ++i) {
      sums[i] = _mm256_fmadd_ps(_mm256_loadu_ps(rows[i] + c), bound, sums[i]);
    }
  }
  alignas(16) float products[kQueries];
  _mm_store_ps(products, sums_of_lanes(sums));
  for (; c < n; ++c) {
    for (std::size_t i = 0; i < kQueries; ++i) products[i] += rows[i][c] * bound_at(part, c);
  }
  float most = products[0];
  for (const float p : products) most = p > most ? p : most;
  return most;
}

}  // namespace

void bound_scores(const float* q, std::size_t n_q, const KvRun& bounds, std::size_t n, float* out) {
  for (std::size_t b = 0; b < bounds.n_blocks; ++b) {
    if (b + kAhead < bounds.n_blocks) {
      for (std::size_t c = 0; c < 2 * n; c += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(bounds.parts[b + kAhead] + c), _MM_HINT_T0);
      }
    }
    for (std::size_t i = 0; i < n_q; i += kQueries) {
      const std::size_t left = n_q - i;
      const float product =
          best_product(q + i * n, left < kQueries ? left : kQueries, bounds.parts[b], n);
      if (i == 0 || product > out[b]) out[b] = product;
    }
  }
}

}  // namespace larder::simd::avx2
