// Codes of values, and planes of codes put together, for the files of this set that encode.
// Everything is inlined; nothing here is compiled on its own.
#pragma once

#include "simd/avx512/planes.h"

namespace larder::simd::avx512 {
namespace {

constexpr std::size_t kLanes = 16;
constexpr __mmask16 kAll = 0xffff;
constexpr float kMaxElement = 65504.0F;  // as the scalar set has it

struct Pair {
  __m512 low, high;
};

inline __m512 finite(__m512i bits) {
  const __m512 x = _mm512_castsi512_ps(bits);
  const __mmask16 is_number = _mm512_cmp_ps_mask(x, x, _CMP_ORD_Q);
  const __m512 top = _mm512_set1_ps(kMaxElement);
  const __m512 bottom = _mm512_set1_ps(-kMaxElement);
  return _mm512_maskz_max_ps(is_number, _mm512_maskz_min_ps(is_number, x, top), bottom);
}

inline Pair load_pair(const std::byte* bf16) {
  const __m512i pairs = _mm512_loadu_si512(bf16);
  return {finite(_mm512_maskz_slli_epi32(kAll, pairs, 16)),
          finite(_mm512_and_si512(pairs, _mm512_set1_epi32(-65536)))};
}

inline __m512 magnitude(__m512 x) {
  return _mm512_castsi512_ps(
      _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff)));
}

// What the largest element of a row or channel becomes.
inline float top_value(const CodeBook& book) {
  if (codes_are_values(book)) return 255.0F;
  const std::size_t last = book.bits == 8 ? 127 : (1U << book.bits) - 1;
  const std::uint32_t bits = static_cast<std::uint32_t>(book.values[last]) << 16;
  float top;
  __builtin_memcpy(&top, &bits, sizeof(top));
  return top;
}

// Finds the codes of a table of kBits bits.
template <int kBits>
class Coder {
 public:
  explicit Coder(const CodeBook& book) {
    alignas(64) float bounds[32], values[32];
    for (int i = 0; i < 32; ++i) {
      bounds[i] = i < (1 << kBits) - 1 ? book.bounds[i] : __builtin_inff();
      const std::uint32_t bits = static_cast<std::uint32_t>(book.values[i]) << 16;
      __builtin_memcpy(&values[i], &bits, sizeof(bits));
    }
    for (int i = 0; i < 2; ++i) {
      bounds_[i] = _mm512_load_ps(bounds + 16 * i);
      values_[i] = _mm512_load_ps(values + 16 * i);
    }
  }

  // Codes in 32-bit lanes.
  [[gnu::always_inline]] __m512i code(__m512 x) const {
    if constexpr (kBits == 8) {
      return e4m3(x);
    } else {
      __m512i code = _mm512_setzero_si512();
      for_each_of(std::make_integer_sequence<int, kBits>{}, [&](auto i) {
        constexpr int kStep = 1 << (kBits - 1 - i());
        const __m512i at = _mm512_add_epi32(code, _mm512_set1_epi32(kStep - 1));
        const __m512 bound = _mm512_permutex2var_ps(bounds_[0], at, bounds_[1]);
        const __mmask16 above = _mm512_cmp_ps_mask(bound, x, _CMP_LT_OQ);
        code = _mm512_mask_add_epi32(code, above, code, _mm512_set1_epi32(kStep));
      });
      return code;
    }
  }
  // Values of codes below 8 bits.
  [[gnu::always_inline]] __m512 value(__m512i code) const {
    return _mm512_permutex2var_ps(values_[0], code, values_[1]);
  }

 private:
  static __m512i sign(__m512 x) {
    const __m512i bits = _mm512_maskz_srli_epi32(kAll, _mm512_castps_si512(x), 24);
    return _mm512_and_si512(bits, _mm512_set1_epi32(0x80));
  }
  // To three bits behind the leading one, halves towards zero; steps of 2^-9 below 2^-6.
  static __m512i e4m3(__m512 x) {
    const __m512 size = magnitude(x);
    const __m512i rounded = _mm512_maskz_srli_epi32(
        kAll, _mm512_add_epi32(_mm512_castps_si512(size), _mm512_set1_epi32(0x7ffff)), 20);
    const __m512i normal = _mm512_sub_epi32(rounded, _mm512_set1_epi32((127 - 7) << 3));
    const __m512 steps =
        _mm512_sub_ps(_mm512_mul_ps(size, _mm512_set1_ps(512.0F)), _mm512_set1_ps(0.5F));
    const __m512i small = _mm512_maskz_cvttps_epi32(
        kAll, _mm512_maskz_roundscale_ps(kAll, steps, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC));
    const __mmask16 is_small = _mm512_cmp_ps_mask(size, _mm512_set1_ps(0x1p-6F), _CMP_LT_OQ);
    const __m512i code = _mm512_mask_mov_epi32(normal, is_small, small);
    return _mm512_or_si512(_mm512_min_epi32(code, _mm512_set1_epi32(126)), sign(x));
  }

  __m512 bounds_[2], values_[2];
};

// Puts planes, 32 codes in 16-bit lanes each, into a group and writes it when it is full.
template <int kBits>
class GroupWriter {
 public:
  template <int i>
  [[gnu::always_inline]] void put(__m512i plane) {
    if constexpr (kBits == 8) {
      if constexpr (i == 0) {
        words_[0] = plane;
      } else {
        words_[0] = _mm512_packus_epi16(words_[0], plane);
      }
    } else if constexpr (i < 15) {
      constexpr int kPerWord = kBits == 2 || kBits == 4 ? 16 : 16 / kBits;
      constexpr int kPlace = i % kPerWord;
      const __m512i moved = _mm512_slli_epi16(plane, kBits * kPlace);
      __m512i& word = words_[i / kPerWord];
      word = kPlace == 0 ? moved : _mm512_or_si512(word, moved);
    } else {
      for_each_of(std::make_integer_sequence<int, kBits>{}, [&](auto k) {
        const __m512i bit = _mm512_slli_epi16(_mm512_srli_epi16(plane, k()), 15);
        words_[k()] = _mm512_or_si512(words_[k()], bit);
      });
    }
  }
  void write(std::byte* group) const {
    for (int w = 0; w < PlaneReader<kBits>::kWords; ++w) {
      _mm512_storeu_si512(group + w * 64, words_[w]);
    }
  }

 private:
  __m512i words_[PlaneReader<kBits>::kWords];
};

inline __m512i join(__m512i low, __m512i high) {
  return _mm512_or_si512(low, _mm512_maskz_slli_epi32(kAll, high, 16));
}

inline __m512 to_half_and_back(__m512 x, __m256i& half) {
  half = _mm512_maskz_cvtps_ph(kAll, x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  return _mm512_maskz_cvtph_ps(kAll, half);
}

}  // namespace
}  // namespace larder::simd::avx512
