// How the avx512 set multiplies lines of bytes (simd/byte_kernels.h): by VPDPBUSD, a lane being a
// token of K or a channel of V, of which an instruction takes four bytes. It takes one factor
// without a sign: rows have 128 added, which the sums' starts make up for. Everything is inlined;
// nothing here is compiled on its own.
#pragma once

#include "simd/avx512/byte_lines.h"
#include "simd/avx512/byte_rounding.h"
#include "simd/avx512/codes.h"
#include "simd/byte_kernels.h"

namespace larder::simd::avx512 {
namespace {

constexpr int kMostRows = 8;
// Rows begin so many bytes apart: no power of two, so that they do not compete for cache sets.
constexpr std::size_t kStride = kMaxHeadDim + kByteStep;

/// Rows of integers: queries, or weights of at most kByteRun tokens.
struct Integers {
  alignas(64) std::int8_t high[kMostRows][kStride], low[kMostRows][kStride];
  float units[kMostRows];
  std::int32_t starts[kMostRows][2];  // of sums: minus what the 128 of rows add

  void set(std::size_t i, const float* x, std::size_t n) { set(i, rounding_of(x, n), x, n); }
  void set_products(std::size_t i, const float* x, const float* y, std::size_t n) {
    alignas(64) float products[kByteRun];
    set(i, rounding_of_products(x, y, n, products), products, n);
  }
  __m512i start(int i, int part) const { return _mm512_set1_epi32(starts[i][part]); }

 private:
  void set(std::size_t i, const Rounding& rounding, const float* x, std::size_t n) {
    rounding.split(x, n, high[i], low[i]);
    units[i] = rounding.unit;
    starts[i][0] = start_of(high[i], n);
    starts[i][1] = start_of(low[i], n);
  }
  static std::int32_t start_of(const std::int8_t* bytes, std::size_t n) {
    __m512i sum = _mm512_setzero_si512();
    for (std::size_t i = 0; i < n; i += kByteStep) {
      sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(-128), _mm512_load_si512(bytes + i));
    }
    return -_mm512_reduce_add_epi32(sum);
  }
};

struct Arithmetic {
  using Vector = __m512i;
  static constexpr std::size_t kLanes = 16, kMostProducts = kMaxHeadDim;
  static constexpr int kParts = 2, kMostQueries = kMostRows;  // high and low bytes
  /// So that sums fill half of the registers.
  template <int kQ>
  static constexpr int kTogether = kQ <= 4 ? 2 : 1;
  template <class Reader>
  using Rows = Integers;
  template <int kBits>
  using Codes = CodedLines<kBits>;
  static constexpr bool kAdds128 = true;
  static constexpr auto read_halves = avx512::read_halves;

  template <int kQ, int kT, class Reader>
  [[gnu::always_inline]] static void add_group(const Reader& reader, const Integers& x,
                                               std::size_t s, const LaneGroups& groups,
                                               __m512i (&sums)[kQ][kT][2]) {
    __m512i words[kT][Reader::kWords];
    LARDER_UNROLL
    for (int t = 0; t < kT; ++t) load_words(groups.data + t * groups.tile, words[t]);
    for_each_of(
        std::make_integer_sequence<int, Reader::kLines>{}, [&](auto l) __attribute__((
                                                               always_inline)) {
          __m512i rows[kT];
          LARDER_UNROLL
          for (int t = 0; t < kT; ++t) rows[t] = reader.template line<l()>(words[t]);
          LARDER_UNROLL
          for (int i = 0; i < kQ; ++i) {
            int four[2];
            __builtin_memcpy(&four[0], x.high[i] + 4 * (s + l()), 4);
            __builtin_memcpy(&four[1], x.low[i] + 4 * (s + l()), 4);
            LARDER_UNROLL
            for (int t = 0; t < kT; ++t) {
              sums[i][t][0] =
                  _mm512_dpbusd_epi32(sums[i][t][0], rows[t], _mm512_set1_epi32(four[0]));
              sums[i][t][1] =
                  _mm512_dpbusd_epi32(sums[i][t][1], rows[t], _mm512_set1_epi32(four[1]));
            }
          }
        });
  }
  [[gnu::always_inline]] static __m512 total(const __m512i (&sum)[2], bool are_few) {
    return are_few ? join_few(sum[0], sum[1]) : join(sum[0], sum[1]);
  }

  static __m512 scales(const std::byte* halves) {
    return _mm512_maskz_cvtph_ps(__mmask16{0xffff},
                                 _mm256_loadu_si256(reinterpret_cast<const __m256i*>(halves)));
  }
  static __m512 load(const float* from) { return _mm512_loadu_ps(from); }
  static void store(float* to, __m512 x) { _mm512_storeu_ps(to, x); }
  static __m512 splat(float x) { return _mm512_set1_ps(x); }
  static __m512 fma(__m512 a, __m512 b, __m512 c) { return _mm512_fmadd_ps(a, b, c); }
  // Inlined early: GCC 12 drops calls of a function that does nothing but this.
  [[gnu::always_inline]] static void fetch(const std::byte* line) {
    _mm_prefetch(reinterpret_cast<const char*>(line), _MM_HINT_T1);
  }
};

}  // namespace
}  // namespace larder::simd::avx512
