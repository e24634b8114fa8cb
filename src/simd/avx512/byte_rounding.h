// Numbers as integers of 16 bits in two bytes, and sums of these bytes' products put together, see
// simd/byte_rows.h. Everything is inlined; nothing here is compiled on its own.
#pragma once

#include <immintrin.h>

#include <array>
#include <bit>

#include "simd/byte_rows.h"
#include "simd/integer_rows.h"

namespace larder::simd::avx512 {
namespace {

constexpr std::size_t kByteStep = 64;  // bytes of a vector

[[gnu::always_inline]] constexpr std::size_t whole_steps(std::size_t n) {
  return (n + kByteStep - 1) / kByteStep * kByteStep;
}

/// How numbers become integers of 16 bits, and these numbers again.
struct Rounding {
  float unit, inverse;

  /// `largest`: bits without signs, of which the largest counts.
  explicit Rounding(__m512i largest) {
    const auto value = std::bit_cast<float>(_mm512_reduce_max_epu32(largest));
    const bool is_zero = value < kLeastLargest;
    unit = is_zero ? 0.0F : value * (1.0F / kTopBytes);
    inverse = is_zero ? 0.0F : kTopBytes / value;
  }
  /// x [n], n a multiple of 16, as bytes, filled up with zeros to whole steps.
  void split(const float* x, std::size_t n, std::int8_t* high, std::int8_t* low) const {
    for (std::size_t i = 0; i < n; i += kByteStep) split_step(x + i, n - i, high + i, low + i);
  }

 private:
  /// Where the lower bytes of 64 words stand that came from packing four vectors by two.
  [[gnu::always_inline]] static __m512i bytes_in_order() {
    alignas(64) static constexpr auto kOrder = [] {
      std::array<std::uint8_t, 64> order{};
      for (std::size_t i = 0; i < 64; ++i) {
        const std::size_t vector = i / 16, lane = i % 16;
        order[i] = static_cast<std::uint8_t>(vector / 2 * 64 + lane / 4 * 16 + vector % 2 * 8 +
                                             lane % 4 * 2);
      }
      return order;
    }();
    return _mm512_load_si512(kOrder.data());
  }
  [[gnu::always_inline]] void split_step(const float* x, std::size_t n, std::int8_t* high,
                                         std::int8_t* low) const {
    __m512i all[4];
    for (std::size_t i = 0; i < 4; ++i) {
      const __mmask16 lanes = n > i * 16 ? __mmask16{0xffff} : __mmask16{0};
      const __m512 some = _mm512_maskz_loadu_ps(lanes, x + i * 16);
      all[i] = _mm512_cvtps_epi32(_mm512_maskz_mul_ps(lanes, some, _mm512_set1_ps(inverse)));
    }
    const __m512i words[2] = {_mm512_packs_epi32(all[0], all[1]),
                              _mm512_packs_epi32(all[2], all[3])};
    // Packing leaves eight bytes of each two vectors side by side, by 16 bytes those of the first
    // two and of the last two.
    const __m512i order = bytes_in_order();
    const __m512i half = _mm512_set1_epi16(128);
    const __m512i rounded[2] = {_mm512_add_epi16(words[0], half), _mm512_add_epi16(words[1], half)};
    _mm512_storeu_si512(low, _mm512_permutex2var_epi8(words[0], order, words[1]));
    _mm512_storeu_si512(
        high, _mm512_permutex2var_epi8(rounded[0], _mm512_add_epi8(order, _mm512_set1_epi8(1)),
                                       rounded[1]));
  }
};

[[gnu::always_inline]] inline __m512i without_sign(__m512 x) {
  return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
}

/// What x [n] is rounded by, n a multiple of 16.
inline Rounding rounding_of(const float* x, std::size_t n) {
  __m512i largest = _mm512_setzero_si512();
  for (std::size_t i = 0; i < n; i += 16) {
    largest = _mm512_max_epu32(largest, without_sign(_mm512_loadu_ps(x + i)));
  }
  return Rounding(largest);
}
/// What the products x y [n] are rounded by, which go to `products`, aligned to 64 bytes.
inline Rounding rounding_of_products(const float* x, const float* y, std::size_t n,
                                     float* products) {
  __m512i largest = _mm512_setzero_si512();
  for (std::size_t i = 0; i < n; i += 16) {
    const __m512 product = _mm512_mul_ps(_mm512_loadu_ps(x + i), _mm512_loadu_ps(y + i));
    largest = _mm512_max_epu32(largest, without_sign(product));
    _mm512_store_ps(products + i, product);
  }
  return Rounding(largest);
}

/// Sums of bytes' products as the floats next to 256 * high + low, which is exact for up to 1024
/// products: neither sum has more than 24 bits.
[[gnu::always_inline]] inline __m512 join(__m512i high, __m512i low) {
  return _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), _mm512_set1_ps(256.0F), _mm512_cvtepi32_ps(low));
}
/// The same, faster, for up to 512 products: 256 * high + low has no more than 32 bits then.
[[gnu::always_inline]] inline __m512 join_few(__m512i high, __m512i low) {
  const __m512i up =  // by a byte; shifts compete with products and conversions
      _mm512_broadcast_i32x4(_mm_setr_epi8(-1, 0, 1, 2, -1, 4, 5, 6, -1, 8, 9, 10, -1, 12, 13, 14));
  return _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_shuffle_epi8(high, up), low));
}

}  // namespace
}  // namespace larder::simd::avx512
