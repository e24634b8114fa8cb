// How the avxvnni set multiplies lines of bytes (simd/byte_kernels.h): as the avx512 set, with
// eight lanes. Everything is inlined; nothing here is compiled on its own.
#pragma once

#include <array>

#include "simd/avx2/byte_floats.h"
#include "simd/avx2/byte_lines.h"
#include "simd/avx2/byte_rounding.h"
#include "simd/byte_kernels.h"

namespace larder::simd::avxvnni {
namespace {

constexpr int kMostRows = 4;

/// Byte parts; what is read has 128 added.
struct StoredLines : avx2::StoredLines {
  template <int j>
  [[gnu::always_inline]] static __m256i bytes(const std::byte* half) {
    return _mm256_xor_si256(avx2::load_words(half), _mm256_set1_epi8(-128));
  }
};

/// Rows of integers: queries, or weights of at most kByteRun tokens; of each four that are
/// multiplied together, the order is that in which the reader has them.
template <class Reader>
struct Integers {
  // Rows begin so many bytes apart: no power of two, so that they do not compete for cache sets.
  static constexpr std::size_t kStride = kMaxHeadDim + 32;
  alignas(32) std::int8_t high[kMostRows][kStride], low[kMostRows][kStride];
  float units[kMostRows];
  std::int32_t starts[kMostRows][2];  // of sums: minus what the 128 of rows add

  /// n a multiple of 16.
  void set(std::size_t i, const float* x, std::size_t n) { set(i, avx2::rounding_of(x, n), x, n); }
  void set_products(std::size_t i, const float* x, const float* y, std::size_t n) {
    alignas(32) float products[kByteRun];
    set(i, avx2::rounding_of_products(x, y, n, products), products, n);
  }
  __m256i start(int i, int part) const { return _mm256_set1_epi32(starts[i][part]); }

 private:
  void set(std::size_t row, const avx2::Rounding& rounding, const float* x, std::size_t n) {
    units[row] = rounding.unit;
    const __m256i order = places(), byte = _mm256_set1_epi16(0xff);
    __m256i sums = _mm256_setzero_si256();  // of low bytes, then of high ones
    for (std::size_t i = 0; i < n; i += 16) {
      const __m256i packed = _mm256_packs_epi32(rounding(x + i), rounding(x + i + 8));
      const __m256i words = _mm256_permute4x64_epi64(packed, _MM_SHUFFLE(3, 1, 2, 0));
      const __m256i rounded = _mm256_add_epi16(words, _mm256_set1_epi16(128));
      const __m256i bytes =
          _mm256_packus_epi16(_mm256_and_si256(words, byte), _mm256_srli_epi16(rounded, 8));
      const __m256i apart = _mm256_permute4x64_epi64(bytes, _MM_SHUFFLE(3, 1, 2, 0));
      const __m256i placed = _mm256_shuffle_epi8(apart, order);
      _mm_store_si128(reinterpret_cast<__m128i*>(low[row] + i), _mm256_castsi256_si128(placed));
      _mm_store_si128(reinterpret_cast<__m128i*>(high[row] + i),
                      _mm256_extracti128_si256(placed, 1));
      sums = _mm256_dpbusd_avx_epi32(sums, _mm256_set1_epi8(-128), placed);
    }
    starts[row][0] = -sum(_mm256_extracti128_si256(sums, 1));
    starts[row][1] = -sum(_mm256_castsi256_si128(sums));
  }
  static std::int32_t sum(__m128i x) {
    x = _mm_add_epi32(x, _mm_shuffle_epi32(x, _MM_SHUFFLE(1, 0, 3, 2)));
    return _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, _MM_SHUFFLE(2, 3, 0, 1))));
  }
  /// Which of 16 elements stands where: whole groups of lines, or like parts of one.
  static __m256i places() {
    alignas(16) static constexpr auto kPlaces = [] {
      std::array<std::int8_t, 16> places{};
      for (int p = 0; p < 16; ++p) {
        const int line = p / 4 % Reader::kLines, group = p / 4 / Reader::kLines;
        const int pair = p % 2 == 0 ? Reader::first(line) : Reader::second(line), i = p % 4 / 2;
        const int element = Reader::kIsNatural ? 2 * pair + i : pair + 2 * i;
        places[static_cast<std::size_t>(p)] =
            static_cast<std::int8_t>(group * 4 * Reader::kLines + element);
      }
      return places;
    }();
    return _mm256_broadcastsi128_si256(
        _mm_load_si128(reinterpret_cast<const __m128i*>(kPlaces.data())));
  }
};

struct Arithmetic : avx2::ByteFloats {
  using Vector = __m256i;
  static constexpr std::size_t kMostProducts = kMaxHeadDim;
  static constexpr int kParts = 2, kMostQueries = kMostRows;  // high and low bytes
  /// So that sums fill half of the registers.
  template <int kQ>
  static constexpr int kTogether = kQ <= 2 ? 2 : 1;
  template <class Reader>
  using Rows = Integers<Reader>;
  template <int kBits>
  using Codes = avx2::CodedLines<kBits>;
  static constexpr bool kAdds128 = true;

  template <int kQ, int kT, class Reader>
  [[gnu::always_inline]] static void add_group(const Reader& reader, const Integers<Reader>& x,
                                               std::size_t s, const LaneGroups& groups,
                                               __m256i (&sums)[kQ][kT][2]) {
    avx2::for_each_of(
        std::make_integer_sequence<int, Reader::kLines>{}, [&](auto j) __attribute__((
                                                               always_inline)) {
          __m256i rows[kT];
          LARDER_UNROLL
          for (int t = 0; t < kT; ++t) {
            rows[t] = reader.template bytes<j()>(groups.data + 32 * t);
          }
          LARDER_UNROLL
          for (int i = 0; i < kQ; ++i) {
            int four[2];
            __builtin_memcpy(&four[0], x.high[i] + 4 * (s + j()), 4);
            __builtin_memcpy(&four[1], x.low[i] + 4 * (s + j()), 4);
            LARDER_UNROLL
            for (int t = 0; t < kT; ++t) {
              sums[i][t][0] =
                  _mm256_dpbusd_avx_epi32(sums[i][t][0], rows[t], _mm256_set1_epi32(four[0]));
              sums[i][t][1] =
                  _mm256_dpbusd_avx_epi32(sums[i][t][1], rows[t], _mm256_set1_epi32(four[1]));
            }
          }
        });
  }
  /// As the avx512 set's `join` and `join_few`.
  [[gnu::always_inline]] static __m256 total(const __m256i (&sum)[2], bool are_few) {
    if (are_few) {
      return _mm256_cvtepi32_ps(_mm256_add_epi32(_mm256_slli_epi32(sum[0], 8), sum[1]));
    }
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[0]), _mm256_set1_ps(256.0F),
                           _mm256_cvtepi32_ps(sum[1]));
  }
};

}  // namespace
}  // namespace larder::simd::avxvnni
