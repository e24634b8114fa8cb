// Lines of byte parts (simd/byte_rows.h) in registers: as they are stored, or from codes that stand
// for bytes (simd/code_book.h). Everything is inlined; nothing here is compiled on its own.
//
// Lines are read in groups, half of their lanes at a time, as vectors of 16-bit words: two words of
// each of eight lanes, in whose lower and upper bytes are two pairs of elements. Beside what
// simd/byte_kernels.h says, a reader has
//   bytes<j>(half)        vector j, of kLines, of half a group
//   first(j), second(j)   which pairs of the group it has, in the lower and in the upper bytes
//   kIsNatural            pair p is elements 2 p and 2 p + 1 of the group, else p and p + 2
#pragma once

#include "simd/avx2/planes.h"
#include "simd/simd.h"

namespace larder::simd::avx2 {
namespace {

/// Byte parts.
struct StoredLines {
  static constexpr int kBits = 8, kLines = 1, kBytes = 64;
  static constexpr bool kIsNatural = false;

  template <int j>
  [[gnu::always_inline]] static __m256i bytes(const std::byte* half) {
    return load_words(half);
  }
  static constexpr int first(int) { return 0; }
  static constexpr int second(int) { return 1; }
  static std::size_t tile_v(BlockShape) { return 64; }
  static std::size_t group_v(BlockShape shape) { return std::size_t{shape.head_dim} * 4; }
};

/// Codes of kBitsOfCode bits that are bytes, which have 128 added where that was asked for. Pairs
/// are planes.
template <int kBitsOfCode>
class CodedLines {
 public:
  static constexpr int kBits = kBitsOfCode;
  static constexpr int kPlanes = static_cast<int>(group_planes(kBits));
  static constexpr int kLines = kPlanes / 2;
  static constexpr int kBytes = static_cast<int>(n_words(kBits)) * 64;
  static constexpr bool kIsNatural = true;

  CodedLines(const CodeBook& book, bool adds_128)
      : low_(table(book, 0, adds_128)), high_(table(book, 16, adds_128)) {
    high_ = _mm256_xor_si256(high_, low_);
  }

  template <int j>
  [[gnu::always_inline]] __m256i bytes(const std::byte* half) const {
    const __m256i at = codes<j>(half);
    const __m256i below_16 = _mm256_shuffle_epi8(low_, at);
    if constexpr (kBits < 5) return below_16;
    // Of codes below 16 the difference has its top bit set, and nothing is looked up.
    const __m256i above = _mm256_sub_epi8(at, _mm256_set1_epi8(16));
    return _mm256_xor_si256(below_16, _mm256_shuffle_epi8(high_, above));
  }
  static constexpr int first(int j) { return kInOneByte ? j : 2 * j; }
  static constexpr int second(int j) { return kInOneByte ? j + kLines : 2 * j + 1; }
  /// And which vector has plane p, in which bytes.
  static constexpr int vector_of(int p) { return kInOneByte ? p % kLines : p / 2; }
  static constexpr bool is_second(int p) { return kInOneByte ? p >= kLines : p % 2 == 1; }

  static std::size_t tile_v(BlockShape shape) {
    return std::size_t{shape.block_tokens} * 2 * kBits;
  }
  static std::size_t group_v(BlockShape) { return kBytes; }

 private:
  static constexpr bool kInOneByte = 8 % kBits == 0;  // each code
  static constexpr int kOfWord = 16 / kBits;          // codes of a 16-bit word, but for plane 15

  static __m256i table(const CodeBook& book, std::size_t from, bool adds_128) {
    alignas(16) std::int8_t bytes[16];
    for (std::size_t i = 0; i < 16; ++i) bytes[i] = byte_of(book, from + i);
    const __m128i table = _mm_load_si128(reinterpret_cast<const __m128i*>(bytes));
    const __m128i added = _mm_set1_epi8(adds_128 ? -128 : 0);  // of a sign only that bit is another
    return _mm256_broadcastsi128_si256(_mm_xor_si128(table, added));
  }

  template <int j>
  [[gnu::always_inline]] static __m256i codes(const std::byte* half) {
    if constexpr (kInOneByte) {
      return _mm256_and_si256(_mm256_srli_epi16(load_words(half), kBits * j),
                              _mm256_set1_epi8((1 << kBits) - 1));
    } else {
      return _mm256_or_si256(plane<2 * j, 0>(half), plane<2 * j + 1, 8>(half));
    }
  }
  /// Codes of plane p at bit kAt of each word.
  template <int p, int kAt>
  [[gnu::always_inline]] static __m256i plane(const std::byte* half) {
    if constexpr (p < 15) {
      constexpr int kDown = p % kOfWord * kBits - kAt;
      const __m256i words = load_words(half + p / kOfWord * 64);
      const __m256i moved =
          kDown >= 0 ? _mm256_srli_epi16(words, kDown) : _mm256_slli_epi16(words, -kDown);
      return _mm256_and_si256(moved, _mm256_set1_epi16(((1 << kBits) - 1) << kAt));
    } else {
      __m256i code = _mm256_setzero_si256();
      for_each_of(
          std::make_integer_sequence<int, kBits>{}, [&](auto k) __attribute__((always_inline)) {
            constexpr int kBit = k();
            const __m256i top = _mm256_srli_epi16(load_words(half + kBit * 64), 15);
            code = _mm256_or_si256(code, _mm256_slli_epi16(top, kAt + kBit));
          });
      return code;
    }
  }

  __m256i low_, high_;
};

}  // namespace
}  // namespace larder::simd::avx2
