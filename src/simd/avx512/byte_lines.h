// Lines of byte parts (simd/byte_rows.h), 16 lanes of four bytes, in registers: as they are stored,
// or from codes that stand for bytes (simd/code_book.h). Everything is inlined; nothing here is
// compiled on its own.
//
// Beside what simd/byte_kernels.h says, a reader has
//   kWords                vectors that a group is stored in
//   line<i>(words)        line i of a group, its bytes with 128 added where that was asked for
#pragma once

#include "simd/avx512/planes.h"
#include "simd/simd.h"
#include "simd/unroll.h"

namespace larder::simd::avx512 {
namespace {

/// Bytes with 128 added: of a sign only that bit is another one.
inline __m512i without_signs(__m512i bytes) {
  return _mm512_xor_si512(bytes, _mm512_set1_epi8(-128));
}

/// Byte parts; what is read has 128 added.
struct StoredLines {
  static constexpr int kBits = 8, kLines = 1, kWords = 1, kBytes = 64;

  template <int i>
  [[gnu::always_inline]] static __m512i line(const __m512i (&words)[1]) {
    return without_signs(words[0]);
  }
  static std::size_t tile_v(BlockShape) { return 64; }
  static std::size_t group_v(BlockShape shape) { return std::size_t{shape.head_dim} * 4; }
};

/// Codes of kBitsOfCode bits that are bytes. Line i has planes 2 i and 2 i + 1.
template <int kBitsOfCode>
class CodedLines {
 public:
  static constexpr int kBits = kBitsOfCode;
  static constexpr int kLines = static_cast<int>(group_planes(kBits)) / 2;
  static constexpr int kWords = static_cast<int>(n_words(kBits));
  static constexpr int kBytes = kWords * 64;

  explicit CodedLines(const CodeBook& book, bool adds_128) {
    alignas(64) std::int8_t bytes[64];
    for (std::size_t i = 0; i < 64; ++i) bytes[i] = byte_of(book, i);
    table_ = _mm512_load_si512(bytes);
    if (adds_128) table_ = without_signs(table_);
  }

  template <int i>
  [[gnu::always_inline]] __m512i line(const __m512i (&words)[kWords]) const {
    return _mm512_permutexvar_epi8(codes<i>(words), table_);
  }
  static std::size_t tile_v(BlockShape shape) {
    return std::size_t{shape.block_tokens} * 2 * kBits;
  }
  static std::size_t group_v(BlockShape) { return kBytes; }

 private:
  static constexpr int kOfWord = 16 / kBits;  // codes of a 16-bit word, but for plane 15
  static constexpr __mmask64 kSecond = 0xcccccccccccccccc;  // bytes of the second plane

  /// Where the bits begin, of a quadword's 64, that become its bytes: `first` of a word for the
  /// bytes of the first plane, `second` for those of the second.
  static __m512i places(int first, int second) {
    long long all = 0;
    for (int b = 0; b < 8; ++b) {
      const int word = b / 4 * 2 + b % 2, at = b % 4 < 2 ? first : second;
      all |= static_cast<long long>((16 * word + at) % 64) << (8 * b);
    }
    return _mm512_set1_epi64(all);
  }
  static constexpr int place(int plane) { return plane % kOfWord * kBits; }

  /// The codes of line i in the lower bits of its bytes.
  template <int i>
  [[gnu::always_inline]] static __m512i codes(const __m512i (&words)[kWords]) {
    constexpr int kFirst = 2 * i, kNext = kFirst + 1;
    const __m512i of_first =
        _mm512_multishift_epi64_epi8(places(place(kFirst), place(kNext)), words[kFirst / kOfWord]);
    if constexpr (kNext == 15) {
      return _mm512_mask_mov_epi8(of_first, kSecond, top_bits(words));
    } else if constexpr (kFirst / kOfWord == kNext / kOfWord) {
      return of_first;
    } else {
      return _mm512_mask_multishift_epi64_epi8(of_first, kSecond, places(0, place(kNext)),
                                               words[kNext / kOfWord]);
    }
  }
  /// Codes of plane 15 in the bytes of the second plane: the top bits of 16-bit words.
  [[gnu::always_inline]] static __m512i top_bits(const __m512i (&words)[kWords]) {
    __m512i code = _mm512_setzero_si512();
    for_each_of(std::make_integer_sequence<int, kBits>{}, [&](auto k) {
      const __m512i bits = _mm512_multishift_epi64_epi8(places(0, 15 - k()), words[k()]);
      constexpr int kOr = 0xf8;  // code | (bits & mask)
      code = _mm512_ternarylogic_epi32(code, bits, _mm512_set1_epi8(1 << k()), kOr);
    });
    return code;
  }

  __m512i table_;
};

/// The next `n` lines, to places `step` apart, while what is `ahead` of them is asked for into the
/// second-level cache; returns where they end.
template <class Reader>
[[gnu::always_inline]] inline const std::byte* unpack_lines(const Reader& reader,
                                                            const std::byte* codes, std::size_t n,
                                                            std::byte* to, std::size_t step,
                                                            std::ptrdiff_t ahead = 0) {
  for (std::size_t i = 0; i < n; i += Reader::kLines) {
    __m512i words[Reader::kWords];
    load_words(codes, words);
    LARDER_UNROLL
    for (int w = 0; w < Reader::kWords; ++w) {
      _mm_prefetch(reinterpret_cast<const char*>(codes + w * 64) + ahead, _MM_HINT_T1);
    }
    for_each_of(
        std::make_integer_sequence<int, Reader::kLines>{}, [&](auto l) __attribute__((
                                                               always_inline)) {
          _mm512_storeu_si512(to, reader.template line<l()>(words));
          to += step;
        });
    codes += Reader::kBytes;
  }
  return codes;
}

}  // namespace
}  // namespace larder::simd::avx512
