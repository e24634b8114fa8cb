// Planes of codes to floats in registers (layout: simd/code_book.h), for the files of this set that
// read codes. A plane is two vectors of eight lanes with a pair of elements each, and half of a
// group is what the lower or the upper 32 bytes of its words hold. Everything is inlined; nothing
// here is compiled on its own.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "simd/code_book.h"

namespace larder::simd::avx2 {
namespace {

/// The two elements of eight lanes.
struct Pair {
  __m256 first, second;
};
/// Where CodeFit::range: scales and zeros of the elements of a group's planes, two for each plane.
struct Ranges {
  const float *scales, *zeros;
};

/// f(integral_constant 0), ..., f(integral_constant n - 1).
template <class F, int... i>
[[gnu::always_inline]] inline void for_each_of(std::integer_sequence<int, i...>, F&& f) {
  (f(std::integral_constant<int, i>{}), ...);
}

inline __m256i load_words(const std::byte* at) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
}
inline Pair floats_of(__m256i bf16_pairs) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(bf16_pairs, 16)),
          _mm256_castsi256_ps(_mm256_and_si256(bf16_pairs, _mm256_set1_epi32(-65536)))};
}

template <int kBitsOfCode>
struct Groups {
  static constexpr int kBits = kBitsOfCode;
  static constexpr int kPlanes = static_cast<int>(group_planes(kBits));
  static constexpr int kBytes = static_cast<int>(n_words(kBits)) * 64;
  using Indices = std::make_integer_sequence<int, kPlanes>;
};

/// Codes of up to 5 bits: the two bytes of a value are looked up apart, sixteen at a time.
template <int kBitsOfCode>
struct TableReader : Groups<kBitsOfCode> {
  using Of = Groups<kBitsOfCode>;
  static constexpr int kTables = Of::kBits == 5 ? 2 : 1;

  __m256i low[kTables], high[kTables];  // bytes of the values; the second ones XOR the first

  explicit TableReader(const CodeBook& book) {
    for (int t = 0; t < kTables; ++t) {
      alignas(32) std::uint8_t bytes[2][32];
      for (int i = 0; i < 32; ++i) {
        const std::uint16_t value = book.values[16 * t + i % 16];
        const std::uint16_t base = t == 0 ? std::uint16_t{0} : book.values[i % 16];
        bytes[0][i] = static_cast<std::uint8_t>((value ^ base) & 0xff);
        bytes[1][i] = static_cast<std::uint8_t>((value ^ base) >> 8);
      }
      low[t] = _mm256_load_si256(reinterpret_cast<const __m256i*>(bytes[0]));
      high[t] = _mm256_load_si256(reinterpret_cast<const __m256i*>(bytes[1]));
    }
  }

  /// Plane i of half a group, as bf16 pairs.
  template <int i>
  [[gnu::always_inline]] __m256i values(const std::byte* half) const {
    if constexpr (i < 15) {
      constexpr int kPerWord = 16 / Of::kBits;
      const __m256i words = load_words(half + i / kPerWord * 64);
      return look_up(_mm256_and_si256(_mm256_srli_epi16(words, Of::kBits * (i % kPerWord)),
                                      _mm256_set1_epi16((1 << Of::kBits) - 1)));
    } else {
      __m256i code = _mm256_srli_epi16(load_words(half), 15);
      for_each_of(std::make_integer_sequence<int, Of::kBits - 1>{}, [&](auto k) {
        constexpr int kBit = k() + 1;
        const __m256i bit = _mm256_srli_epi16(load_words(half + kBit * 64), 15);
        code = _mm256_or_si256(code, _mm256_slli_epi16(bit, kBit));
      });
      return look_up(code);
    }
  }
  template <int i>
  [[gnu::always_inline]] Pair pair(const std::byte* half, const Ranges&) const {
    return floats_of(values<i>(half));
  }

 private:
  // The other byte of each word looks up nothing, and bits above the fourth are ignored.
  [[gnu::always_inline]] __m256i look_up(__m256i code) const {
    const __m256i at_low = _mm256_or_si256(code, _mm256_set1_epi16(-0x8000));
    const __m256i at_high = _mm256_or_si256(_mm256_slli_epi16(code, 8), _mm256_set1_epi16(0x80));
    __m256i value =
        _mm256_or_si256(_mm256_shuffle_epi8(low[0], at_low), _mm256_shuffle_epi8(high[0], at_high));
    if constexpr (kTables == 2) {
      const __m256i other = _mm256_or_si256(_mm256_shuffle_epi8(low[1], at_low),
                                            _mm256_shuffle_epi8(high[1], at_high));
      const __m256i upper = _mm256_cmpgt_epi16(code, _mm256_set1_epi16(15));
      value = _mm256_xor_si256(value, _mm256_and_si256(other, upper));
    }
    return value;
  }
};

/// The same with CodeFit::range: zero + scale * value, rounded to bf16. The products are exact.
template <int kBitsOfCode>
struct RangeReader : TableReader<kBitsOfCode> {
  using TableReader<kBitsOfCode>::TableReader;
  template <int i>
  [[gnu::always_inline]] Pair pair(const std::byte* half, const Ranges& ranges) const {
    const Pair value = floats_of(this->template values<i>(half));
    return {element(value.first, ranges, 2 * i), element(value.second, ranges, 2 * i + 1)};
  }

 private:
  [[gnu::always_inline]] static __m256 element(__m256 value, const Ranges& ranges, int at) {
    const __m256 x = _mm256_fmadd_ps(value, _mm256_broadcast_ss(ranges.scales + at),
                                     _mm256_broadcast_ss(ranges.zeros + at));
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i half_up = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    return _mm256_castsi256_ps(
        _mm256_and_si256(_mm256_add_epi32(bits, half_up), _mm256_set1_epi32(-65536)));
  }
};

/// Codes of 8 bits, sign and magnitude, made floats by arithmetic.
template <CodeSearch kSearch>
struct ByteReader : Groups<8> {
  explicit ByteReader(const CodeBook&) {}
  template <int i>
  [[gnu::always_inline]] Pair pair(const std::byte* half, const Ranges&) const {
    const __m256i codes = load_words(half), zero = _mm256_setzero_si256();
    const __m256i words =
        i == 0 ? _mm256_unpacklo_epi8(codes, zero) : _mm256_unpackhi_epi8(codes, zero);
    return {signed_value(words, _mm256_slli_epi32(words, 24)),
            signed_value(_mm256_srli_epi32(words, 16), _mm256_slli_epi32(words, 8))};
  }

 private:
  // The magnitude in the low bits, the sign on top.
  [[gnu::always_inline]] static __m256 signed_value(__m256i code, __m256i signs) {
    const __m256i magnitude = _mm256_and_si256(code, _mm256_set1_epi32(0x7f));
    const __m256i sign = _mm256_and_si256(signs, _mm256_set1_epi32(INT32_MIN));
    return _mm256_or_ps(value(magnitude), _mm256_castsi256_ps(sign));
  }
  [[gnu::always_inline]] static __m256 value(__m256i magnitude) {
    if constexpr (kSearch == CodeSearch::integer) {
      return _mm256_cvtepi32_ps(magnitude);
    } else {  // four bits of exponent and three of fraction, where a float has them
      const __m256 bits = _mm256_castsi256_ps(_mm256_slli_epi32(magnitude, 20));
      return _mm256_mul_ps(bits, _mm256_set1_ps(0x1p120F));
    }
  }
};

/// f(reader type) for the codes of a book.
template <class F>
auto with_reader(const CodeBook& book, F&& f) {
  const bool has_ranges = book.fit == CodeFit::range;
  switch (book.bits) {
    case 2:
      return has_ranges ? f(RangeReader<2>(book)) : f(TableReader<2>(book));
    case 3:
      return f(TableReader<3>(book));
    case 4:
      return has_ranges ? f(RangeReader<4>(book)) : f(TableReader<4>(book));
    case 5:
      return f(TableReader<5>(book));
    default:
      return book.search == CodeSearch::integer ? f(ByteReader<CodeSearch::integer>(book))
                                                : f(ByteReader<CodeSearch::e4m3>(book));
  }
}

}  // namespace
}  // namespace larder::simd::avx2
