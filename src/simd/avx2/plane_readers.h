// Planes of codes to values in registers. Where values are looked up by bytes, those of two planes
// are at a time: each vector of bytes holds codes of both, eight bytes of one and eight of the
// other in each of its halves, so that no byte of a look-up is idle. Everything is inlined; nothing
// here is compiled on its own.
//
// A reader has
//   load<i>(half)                planes 2 i and 2 i + 1 of half a group, in one register or two
//   pair<i>(loaded, ranges)      of these, plane i: elements, as floats
//   bf16<i>(loaded, ranges)      the same as bf16 pairs, as they are
#pragma once

#include "simd/avx2/part_scales.h"
#include "simd/avx2/planes.h"

namespace larder::simd::avx2 {
namespace {

/// Two planes as bf16 pairs.
struct Values {
  __m256i planes[2];
};

/// A byte of each value, the low or the high one, as a table for sixteen look-ups at a time.
[[gnu::always_inline]] inline __m256i byte_table(const std::uint16_t (&values)[16], int shift) {
  alignas(16) std::uint8_t bytes[16];
  for (int i = 0; i < 16; ++i) bytes[i] = static_cast<std::uint8_t>(values[i] >> shift);
  return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(bytes)));
}
/// Look-ups of values by the low four bits of a byte; bytes with the top bit set give zero.
struct ByteTables {
  __m256i low, high;

  explicit ByteTables(const std::uint16_t (&values)[16])
      : low(byte_table(values, 0)), high(byte_table(values, 8)) {}
};

/// What has values looked up from bytes.
struct ValueReader {
  template <int i>
  [[gnu::always_inline]] static __m256i bf16(const Values& loaded, const Ranges&) {
    return loaded.planes[i % 2];
  }
  template <int i>
  [[gnu::always_inline]] static Pair pair(const Values& loaded, const Ranges&) {
    return floats_of(loaded.planes[i % 2]);
  }
  [[gnu::always_inline]] static Values values(__m256i low, __m256i high) {
    return {_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)};
  }
};

/// Codes of 3 to 5 bits.
template <int kBitsOfCode>
struct TableReader : Groups<kBitsOfCode>, ValueReader {
  using Of = Groups<kBitsOfCode>;

  ByteTables first, second;  // codes below 16; the others' values XOR those of the first

  explicit TableReader(const CodeBook& book)
      : first(Table(book, 0).values), second(Table(book, 16).values) {}

  template <int i>
  [[gnu::always_inline]] Values load(const std::byte* half) const {
    const __m256i codes = two_planes<i>(half);
    __m256i low = _mm256_shuffle_epi8(first.low, codes);
    __m256i high = _mm256_shuffle_epi8(first.high, codes);
    if constexpr (Of::kBits == 5) {  // of codes below 16 the difference has its top bit set
      const __m256i above = _mm256_sub_epi8(codes, _mm256_set1_epi8(16));
      low = _mm256_xor_si256(low, _mm256_shuffle_epi8(second.low, above));
      high = _mm256_xor_si256(high, _mm256_shuffle_epi8(second.high, above));
    }
    return ValueReader::values(low, high);
  }

 private:
  struct Table {
    std::uint16_t values[16];
    Table(const CodeBook& book, int from) {
      for (int i = 0; i < 16; ++i) {
        const int base = from == 0 ? 0 : book.values[i];
        values[i] = static_cast<std::uint16_t>(book.values[from + i] ^ base);
      }
    }
  };

  // Codes of planes 2 i and 2 i + 1, in bytes.
  template <int i>
  [[gnu::always_inline]] static __m256i two_planes(const std::byte* half) {
    if constexpr (Of::kBits == 4) {  // in the same byte of each word
      constexpr long long kEven = 0x0e0c0a0806040200, kOnes = 0x0101010101010101;
      const __m256i twice = _mm256_set1_epi64x(kEven + i * kOnes);
      const __m256i bytes = _mm256_shuffle_epi8(load_words(half), twice);
      const __m256i codes = _mm256_srlv_epi64(bytes, _mm256_setr_epi64x(0, 4, 0, 4));
      return _mm256_and_si256(codes, _mm256_set1_epi8(0x0f));
    } else {
      return _mm256_packus_epi16(plane<2 * i>(half), plane<2 * i + 1>(half));
    }
  }
  // Codes of one plane, in 16-bit words.
  template <int i>
  [[gnu::always_inline]] static __m256i plane(const std::byte* half) {
    if constexpr (i < 15) {
      constexpr int kPerWord = 16 / Of::kBits;
      const __m256i words = load_words(half + i / kPerWord * 64);
      return _mm256_and_si256(_mm256_srli_epi16(words, Of::kBits * (i % kPerWord)),
                              _mm256_set1_epi16((1 << Of::kBits) - 1));
    } else {
      __m256i code = _mm256_srli_epi16(load_words(half), 15);
      for_each_of(std::make_integer_sequence<int, Of::kBits - 1>{}, [&](auto k) {
        constexpr int kBit = k() + 1;
        const __m256i bit = _mm256_srli_epi16(load_words(half + kBit * 64), 15);
        code = _mm256_or_si256(code, _mm256_slli_epi16(bit, kBit));
      });
      return code;
    }
  }
};

/// Elements with CodeFit::range: zero + scale * value, rounded to bf16. The products are exact.
[[gnu::always_inline]] inline __m256 element(__m256 value, const Ranges& ranges, int at) {
  return round_to_bf16(_mm256_fmadd_ps(value, _mm256_broadcast_ss(ranges.scales + at),
                                       _mm256_broadcast_ss(ranges.zeros + at)));
}

/// Codes of 4 bits with CodeFit::range.
struct RangeReader : TableReader<4> {
  using TableReader<4>::TableReader;

  template <int i>
  [[gnu::always_inline]] static Pair pair(const Values& loaded, const Ranges& ranges) {
    const Pair value = floats_of(loaded.planes[i % 2]);
    return {element(value.first, ranges, 2 * i), element(value.second, ranges, 2 * i + 1)};
  }
  template <int i>
  [[gnu::always_inline]] static __m256i bf16(const Values& loaded, const Ranges& ranges) {
    return bf16_pairs(pair<i>(loaded, ranges));
  }
};

/// Codes of 8 bits with CodeFit::range: they are the values.
struct ByteRangeReader : Groups<8> {
  explicit ByteRangeReader(const CodeBook&) {}

  template <int i>
  [[gnu::always_inline]] static __m256i load(const std::byte* half) {
    return load_words(half);
  }
  template <int i>
  [[gnu::always_inline]] static Pair pair(__m256i codes, const Ranges& ranges) {
    return {element(value(codes, 8 * i), ranges, 2 * i),
            element(value(codes, 8 * i + 1), ranges, 2 * i + 1)};
  }
  template <int i>
  [[gnu::always_inline]] static __m256i bf16(__m256i codes, const Ranges& ranges) {
    return bf16_pairs(pair<i>(codes, ranges));
  }

 private:
  // Bytes at, at + 2, at + 4 and at + 6 of each half.
  [[gnu::always_inline]] static __m256 value(__m256i bytes, int at) {
    constexpr int kNone = static_cast<int>(0x80808000U);  // the upper three bytes are zero
    const __m256i order =
        _mm256_setr_epi32(kNone + at, kNone + at + 2, kNone + at + 4, kNone + at + 6, kNone + at,
                          kNone + at + 2, kNone + at + 4, kNone + at + 6);
    return _mm256_cvtepi32_ps(_mm256_shuffle_epi8(bytes, order));
  }
};

/// Codes of 2 bits, with CodeFit::range or without: they select one of four floats.
template <bool kHasRanges>
struct FourReader : Groups<2> {
  __m256 values;

  explicit FourReader(const CodeBook& book) : values(four_values(book)) {}

  template <int i>
  [[gnu::always_inline]] static __m256i load(const std::byte* half) {
    return load_words(half);
  }
  // The lowest two bits of a dword select, the others are ignored.
  template <int i>
  [[gnu::always_inline]] Pair pair(__m256i words, const Ranges& ranges) const {
    const __m256i upper_word = _mm256_setr_epi32(2, 6, 10, 14, 2, 6, 10, 14);
    const __m256i first = _mm256_srli_epi32(words, 2 * i);
    const __m256i second = _mm256_shuffle_epi8(first, upper_word);
    return {_mm256_permutevar_ps(floats<2 * i>(ranges), first),
            _mm256_permutevar_ps(floats<2 * i + 1>(ranges), second)};
  }
  template <int i>
  [[gnu::always_inline]] __m256i bf16(__m256i words, const Ranges& ranges) const {
    return bf16_pairs(pair<i>(words, ranges));
  }

 private:
  template <int at>
  [[gnu::always_inline]] __m256 floats(const Ranges& ranges) const {
    if constexpr (!kHasRanges) return values;
    return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(ranges.fours + 4 * at));
  }
};

/// Sign, four bits of exponent and three of fraction, of e4m3 as of bf16 but for the exponent's
/// bias from magnitude 8 on: the high byte of a value follows from the upper four bits of the code,
/// the low byte from the lower four. Magnitudes below, without a leading one, are put right by a
/// second look-up. (As floats they could be multiplied by 2^120, but would be denormal before,
/// which costs more than a hundred cycles for each vector that has one.)
struct E4m3Reader : Groups<8>, ValueReader {
  ByteTables normal, small;  // the second XOR the first

  explicit E4m3Reader(const CodeBook& book)
      : normal(Table(book, false).values), small(Table(book, true).values) {}

  template <int i>
  [[gnu::always_inline]] Values load(const std::byte* half) const {
    const __m256i codes = load_words(half);
    const __m256i size = _mm256_and_si256(codes, _mm256_set1_epi8(0x7f));
    const __m256i upper = _mm256_and_si256(_mm256_srli_epi16(codes, 4), _mm256_set1_epi8(0x0f));
    const __m256i if_small = _mm256_adds_epu8(size, _mm256_set1_epi8(0x70));  // below 16
    return ValueReader::values(_mm256_xor_si256(_mm256_shuffle_epi8(normal.low, size),
                                                _mm256_shuffle_epi8(small.low, if_small)),
                               _mm256_xor_si256(_mm256_shuffle_epi8(normal.high, upper),
                                                _mm256_shuffle_epi8(small.high, if_small)));
  }

 private:
  struct Table {
    std::uint16_t values[16];
    Table(const CodeBook& book, bool is_small) {
      constexpr int kBias = (127 - 7) << 7;
      for (int i = 0; i < 16; ++i) {
        const int high = (i / 8 << 15) + (i % 8 << 8) + kBias;
        values[i] = static_cast<std::uint16_t>(is_small ? book.values[i] ^ (kBias + (i << 4))
                                                        : high + (i << 4));
      }
    }
  };
};

/// f(reader) for the codes of a book with CodeFit::range.
template <class F>
void with_range_reader(const CodeBook& book, F&& f) {
  switch (book.bits) {
    case 2:
      return f(FourReader<true>(book));
    case 4:
      return f(RangeReader(book));
    default:
      return f(ByteRangeReader(book));
  }
}

/// f(reader) for the codes of a book.
template <class F>
void with_reader(const CodeBook& book, F&& f) {
  if (book.fit == CodeFit::range) return with_range_reader(book, f);
  switch (book.bits) {
    case 2:
      return f(FourReader<false>(book));
    case 3:
      return f(TableReader<3>(book));
    case 4:
      return f(TableReader<4>(book));
    case 5:
      return f(TableReader<5>(book));
    default:
      return f(E4m3Reader(book));
  }
}

}  // namespace
}  // namespace larder::simd::avx2
