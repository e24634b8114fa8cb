// Planes of codes to bf16 pairs in registers (layout: simd/code_book.h), for the files of this set
// that read codes. Everything is inlined; nothing here is compiled on its own.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "simd/code_book.h"

namespace larder::simd::avx512 {
namespace {

/// f(integral_constant 0), ..., f(integral_constant n - 1).
template <class F, int... i>
[[gnu::always_inline]] inline void for_each_of(std::integer_sequence<int, i...>, F&& f) {
  (f(std::integral_constant<int, i>{}), ...);
}

/// Table look-ups for codes of kBits bits.
template <int kBits>
struct PlaneReader {
  static constexpr int kPlanes = static_cast<int>(group_planes(kBits));
  static constexpr int kWords = static_cast<int>(n_words(kBits));
  using Indices = std::make_integer_sequence<int, kPlanes>;

  __m512i table;  // the values, repeated: bits above the code's are ignored

  explicit PlaneReader(const CodeBook& book) : table(_mm512_load_si512(book.values)) {}

  /// Plane i of the group whose vectors are `words`.
  template <int i>
  [[gnu::always_inline]] __m512i plane(const __m512i (&words)[kWords]) const {
    if constexpr (kPlanes < 16) {
      return look_up(_mm512_srli_epi16(words[0], kBits * i));
    } else if constexpr (i < 15) {
      constexpr int kPerWord = 16 / kBits;
      return look_up(_mm512_srli_epi16(words[i / kPerWord], kBits * (i % kPerWord)));
    } else {
      __m512i code = _mm512_srli_epi16(words[0], 15);
      for_each_of(std::make_integer_sequence<int, kBits - 1>{}, [&](auto k) {
        constexpr int kBit = k() + 1;
        const __m512i bit = _mm512_srli_epi16(words[kBit], 15);
        code = _mm512_or_si512(code, _mm512_slli_epi16(bit, kBit));
      });
      return look_up(code);
    }
  }

 private:
  // Five bits of each word are the index.
  __m512i look_up(__m512i code) const { return _mm512_permutexvar_epi16(code, table); }
};

/// Codes of 8 bits: the two bytes of a value are looked up apart by the code's magnitude.
template <>
struct PlaneReader<8> {
  static constexpr int kPlanes = 2;
  static constexpr int kWords = 1;
  using Indices = std::make_integer_sequence<int, 2>;

  __m512i low[2], high[2];  // bytes of the 128 values

  explicit PlaneReader(const CodeBook& book) {
    alignas(64) std::uint8_t bytes[2][128];
    for (int i = 0; i < 128; ++i) {
      bytes[0][i] = static_cast<std::uint8_t>(book.values[i] & 0xff);
      bytes[1][i] = static_cast<std::uint8_t>(book.values[i] >> 8);
    }
    for (int i = 0; i < 2; ++i) {
      low[i] = _mm512_load_si512(bytes[0] + 64 * i);
      high[i] = _mm512_load_si512(bytes[1] + 64 * i);
    }
  }

  template <int i>
  [[gnu::always_inline]] __m512i plane(const __m512i (&words)[1]) const {
    const __m512i codes = words[0];
    const __m512i bytes = _mm512_permutex2var_epi8(low[0], codes, low[1]);
    // The sign is bit 7 of the code and of the high byte.
    const __m512i signs = _mm512_and_si512(codes, _mm512_set1_epi8(-128));
    const __m512i magnitudes = _mm512_permutex2var_epi8(high[0], codes, high[1]);
    const __m512i tops = _mm512_or_si512(magnitudes, signs);
    return i == 0 ? _mm512_unpacklo_epi8(bytes, tops) : _mm512_unpackhi_epi8(bytes, tops);
  }
};

template <int kWords>
[[gnu::always_inline]] inline void load_words(const std::byte* group, __m512i (&words)[kWords]) {
  for (int w = 0; w < kWords; ++w) words[w] = _mm512_loadu_si512(group + w * 64);
}

template <int kWords>
[[gnu::always_inline]] inline void fetch_words(const std::byte* group, std::ptrdiff_t ahead) {
  for (int w = 0; w < kWords; ++w) {
    _mm_prefetch(reinterpret_cast<const char*>(group + w * 64) + ahead, _MM_HINT_T0);
  }
}

}  // namespace
}  // namespace larder::simd::avx512
