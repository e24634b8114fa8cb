// How the avx2 set multiplies lines of bytes (simd/byte_kernels.h): by VPMADDWD, a lane being a
// token of K or a channel of V, of which an instruction takes a pair of elements. Everything is
// inlined; nothing here is compiled on its own.
#pragma once

#include "simd/avx2/byte_floats.h"
#include "simd/avx2/byte_lines.h"
#include "simd/avx2/byte_rounding.h"
#include "simd/byte_kernels.h"

namespace larder::simd::avx2 {
namespace {

constexpr int kMostRows = 4;

/// Rows of integers: queries, or weights of at most kByteRun tokens, in pairs, in the order in
/// which readers have them.
template <class Reader>
struct Integers {
  // Rows begin so far apart: no power of two, so that they do not compete for cache sets.
  alignas(32) std::int32_t pairs[kMostRows][kMaxHeadDim / 2 + 8];
  float units[kMostRows];

  /// n a multiple of 16.
  void set(std::size_t i, const float* x, std::size_t n) { set(i, rounding_of(x, n), x, n); }
  void set_products(std::size_t i, const float* x, const float* y, std::size_t n) {
    alignas(32) float products[kByteRun];
    set(i, rounding_of_products(x, y, n, products), products, n);
  }
  static __m256i start(int, int) { return _mm256_setzero_si256(); }

 private:
  void set(std::size_t row, const Rounding& rounding, const float* x, std::size_t n) {
    units[row] = rounding.unit;
    for (std::size_t i = 0; i < n; i += 8) {
      __m256i all = rounding(x + i);
      if (!Reader::kIsNatural) all = _mm256_shuffle_epi32(all, _MM_SHUFFLE(3, 1, 2, 0));
      const __m256i words = _mm256_packs_epi32(all, all);
      const __m256i together = _mm256_permute4x64_epi64(words, _MM_SHUFFLE(3, 1, 2, 0));
      _mm_store_si128(reinterpret_cast<__m128i*>(pairs[row] + i / 2),
                      _mm256_castsi256_si128(together));
    }
  }
};

/// The floats next to sums of two times kByteRun products.
inline __m256 wide_sum(__m256i a, __m256i b) {
  const auto half = [](__m128i x, __m128i y) {
    return _mm256_cvtpd_ps(_mm256_add_pd(_mm256_cvtepi32_pd(x), _mm256_cvtepi32_pd(y)));
  };
  return _mm256_set_m128(half(_mm256_extracti128_si256(a, 1), _mm256_extracti128_si256(b, 1)),
                         half(_mm256_castsi256_si128(a), _mm256_castsi256_si128(b)));
}

struct Arithmetic : ByteFloats {
  using Vector = __m256i;
  static constexpr std::size_t kMostProducts = kByteRun;  // whose sum has no more than 32 bits
  static constexpr int kParts = 1, kMostQueries = kMostRows;
  template <int kQ>
  static constexpr int kTogether = 2;  // a tile
  template <class Reader>
  using Rows = Integers<Reader>;
  template <int kBits>
  using Codes = CodedLines<kBits>;
  static constexpr bool kAdds128 = false;

  template <int kQ, int kT, class Reader>
  [[gnu::always_inline]] static void add_group(const Reader& reader, const Integers<Reader>& x,
                                               std::size_t s, const LaneGroups& groups,
                                               __m256i (&sums)[kQ][kT][1]) {
    for_each_of(
        std::make_integer_sequence<int, Reader::kLines>{}, [&](auto j) __attribute__((
                                                               always_inline)) {
          __m256i even[kT], odd[kT];
          LARDER_UNROLL
          for (int t = 0; t < kT; ++t) {
            const __m256i bytes = reader.template bytes<j()>(groups.data + 32 * t);
            even[t] = _mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8);
            odd[t] = _mm256_srai_epi16(bytes, 8);
          }
          LARDER_UNROLL
          for (int i = 0; i < kQ; ++i) {
            const std::int32_t* const pairs = x.pairs[i] + 2 * s;
            const __m256i a = _mm256_set1_epi32(pairs[Reader::first(j())]);
            const __m256i b = _mm256_set1_epi32(pairs[Reader::second(j())]);
            LARDER_UNROLL
            for (int t = 0; t < kT; ++t) {
              const __m256i two =
                  _mm256_add_epi32(_mm256_madd_epi16(even[t], a), _mm256_madd_epi16(odd[t], b));
              sums[i][t][0] = _mm256_add_epi32(sums[i][t][0], two);
            }
          }
        });
  }
  static __m256 total(const __m256i (&sum)[1], bool) { return _mm256_cvtepi32_ps(sum[0]); }
  static __m256 total(const __m256i (&sum)[1], const __m256i (&rest)[1]) {
    return wide_sum(sum[0], rest[0]);
  }
};

}  // namespace
}  // namespace larder::simd::avx2
