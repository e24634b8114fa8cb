// Codes of values, and planes of codes put together, for the files of this set that encode. Half a
// plane at a time: eight lanes of two elements. Everything is inlined; nothing here is compiled on
// its own.
#pragma once

#include "simd/avx2/lanes.h"
#include "simd/avx2/planes.h"

namespace larder::simd::avx2 {
namespace {

constexpr float kMaxElement = 65504.0F;  // as the scalar set has it

inline __m256 magnitude(__m256 x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0F), x); }

inline __m256 finite(__m256 x) {
  const __m256 is_number = _mm256_cmp_ps(x, x, _CMP_ORD_Q);
  const __m256 below = _mm256_min_ps(_mm256_and_ps(is_number, x), _mm256_set1_ps(kMaxElement));
  return _mm256_max_ps(below, _mm256_set1_ps(-kMaxElement));
}
inline Pair load_pair(const std::byte* bf16) {
  const Pair x = floats_of(load_words(bf16));
  return {finite(x.first), finite(x.second)};
}

/// Finds the codes of a table of kBits bits, in 32-bit lanes.
template <int kBits>
class Coder {
 public:
  explicit Coder(const CodeBook& book) : book_(book) {
    for (int i = 0; i < 32; ++i) {
      const std::uint32_t bits = static_cast<std::uint32_t>(book.values[i]) << 16;
      __builtin_memcpy(&values_[i], &bits, sizeof(bits));
    }
  }

  [[gnu::always_inline]] __m256i code(__m256 x) const {
    if constexpr (kBits == 8) {
      const __m256i sign = _mm256_srli_epi32(_mm256_castps_si256(x), 24);
      return _mm256_or_si256(e4m3(x), _mm256_and_si256(sign, _mm256_set1_epi32(0x80)));
    } else {
      __m256i code = _mm256_setzero_si256();
      for (int i = 0; i < (1 << kBits) - 1; ++i) {
        const __m256 above = _mm256_cmp_ps(_mm256_broadcast_ss(book_.bounds + i), x, _CMP_LT_OQ);
        code = _mm256_sub_epi32(code, _mm256_castps_si256(above));
      }
      return code;
    }
  }
  /// Values of codes below 8 bits.
  [[gnu::always_inline]] __m256 value(__m256i code) const {
    return _mm256_i32gather_ps(values_, code, 4);
  }

 private:
  static __m256i steps(__m256 x) {  // how many of 0.5, 1.5 ... are below
    const __m256 up = _mm256_ceil_ps(_mm256_sub_ps(x, _mm256_set1_ps(0.5F)));
    return _mm256_cvttps_epi32(up);
  }
  // To three bits behind the leading one, halves towards zero; steps of 2^-9 below 2^-6.
  static __m256i e4m3(__m256 x) {
    const __m256 size = magnitude(x);
    const __m256i rounded = _mm256_srli_epi32(
        _mm256_add_epi32(_mm256_castps_si256(size), _mm256_set1_epi32(0x7ffff)), 20);
    const __m256i normal = _mm256_sub_epi32(rounded, _mm256_set1_epi32((127 - 7) << 3));
    const __m256i small = steps(_mm256_mul_ps(size, _mm256_set1_ps(512.0F)));
    const __m256 is_small = _mm256_cmp_ps(size, _mm256_set1_ps(0x1p-6F), _CMP_LT_OQ);
    const __m256i code = _mm256_blendv_epi8(normal, small, _mm256_castps_si256(is_small));
    return _mm256_min_epi32(code, _mm256_set1_epi32(126));
  }

  const CodeBook& book_;
  alignas(32) float values_[32];
};

/// Puts halves of planes, 16 codes in 16-bit lanes each, into half a group and writes it.
template <int kBits>
class GroupWriter {
 public:
  template <int i>
  [[gnu::always_inline]] void put(__m256i low, __m256i high) {
    const __m256i plane = _mm256_or_si256(low, _mm256_slli_epi32(high, 16));
    if constexpr (kBits == 8) {
      words_[0] = i == 0 ? plane : _mm256_packus_epi16(words_[0], plane);
    } else if constexpr (i < 15) {
      constexpr int kPerWord = 16 / kBits, kPlace = i % kPerWord;
      const __m256i moved = _mm256_slli_epi16(plane, kBits * kPlace);
      __m256i& word = words_[i / kPerWord];
      word = kPlace == 0 ? moved : _mm256_or_si256(word, moved);
    } else {
      for_each_of(std::make_integer_sequence<int, kBits>{}, [&](auto k) {
        const __m256i bit = _mm256_slli_epi16(_mm256_srli_epi16(plane, k()), 15);
        words_[k()] = _mm256_or_si256(words_[k()], bit);
      });
    }
  }
  void write(std::byte* half) const {
    for (int w = 0; w < kWords; ++w) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(half + w * 64), words_[w]);
    }
  }

 private:
  static constexpr int kWords = static_cast<int>(n_words(kBits));
  __m256i words_[kWords];
};

inline void store_halves(__m128i halves, std::byte* to) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), halves);
}
inline __m128i to_halves(__m256 x) { return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT); }

inline float max_lanes(__m256 x) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
inline float min_lanes(__m256 x) { return -max_lanes(_mm256_xor_ps(x, _mm256_set1_ps(-0.0F))); }

/// The largest value of a book.
inline float top_value(const CodeBook& book) {
  if (codes_are_values(book)) return 255.0F;
  const std::size_t at = book.bits == 8 ? 127 : (std::size_t{1} << book.bits) - 1;
  const std::uint32_t bits = static_cast<std::uint32_t>(book.values[at]) << 16;
  float top;
  __builtin_memcpy(&top, &bits, sizeof(top));
  return top;
}
/// 1 / scale, zero where the scale is not above zero.
inline __m256 factors_of(__m256 scale) {
  const __m256 some = _mm256_cmp_ps(scale, _mm256_setzero_ps(), _CMP_GT_OQ);
  return _mm256_and_ps(some, _mm256_div_ps(_mm256_set1_ps(1.0F), scale));
}

}  // namespace
}  // namespace larder::simd::avx2
