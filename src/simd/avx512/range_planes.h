// Planes of codes with CodeFit::range to bf16 pairs, in registers and whole parts (layout:
// simd/code_book.h), for the files of this set that read codes. Everything is inlined; nothing here
// is compiled on its own.
#pragma once

#include "simd/avx512/codes.h"
#include "simd/avx512/planes.h"

namespace larder::simd::avx512 {
namespace {

/// A reader has
///   table(scales, zeros)   what makes elements of the codes of a plane: of the two channels of K,
///                          or rows of V, whose scales and zeros stand there
///   plane<i>(words, table) plane i of a group as bf16 pairs
/// Each element is zero + scale * value with one rounding, for the products are exact, and another
/// to bf16.
///
/// The two words of a lane belong to channels of K, or rows of V, with scales and zeros of their
/// own, and a plane has the same two in all lanes. So their elements, 16 of each at most, are one
/// table of 32 words, which bit 4 of an index chooses between.
template <int kBits>
struct RangeReader {
  static_assert(kBits == 2 || kBits == 4);
  using Table = __m512i;
  static constexpr int kPlanes = PlaneReader<kBits>::kPlanes;
  using Indices = typename PlaneReader<kBits>::Indices;

  __m512 values;  // of codes 0 to 15, repeated where there are fewer

  explicit RangeReader(const CodeBook& book) {
    const auto* const words = reinterpret_cast<const __m256i*>(book.values);
    const __m512i wide = _mm512_maskz_cvtepu16_epi32(0xffff, _mm256_load_si256(words));
    values = _mm512_castsi512_ps(_mm512_maskz_slli_epi32(0xffff, wide, 16));
  }

  /// The elements of both words.
  [[gnu::always_inline]] Table table(const float* scales, const float* zeros) const {
    const __m512 even =
        _mm512_fmadd_ps(values, _mm512_set1_ps(scales[0]), _mm512_set1_ps(zeros[0]));
    const __m512 odd = _mm512_fmadd_ps(values, _mm512_set1_ps(scales[1]), _mm512_set1_ps(zeros[1]));
    return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(odd, even));
  }
  template <int i>
  [[gnu::always_inline]] static __m512i plane(__m512i words, Table table) {
    const __m512i codes = _mm512_set1_epi16((1 << kBits) - 1);
    const __m512i second = _mm512_set1_epi32(0x00100000);
    constexpr int kAndOr = 0xea;
    const __m512i shifted = _mm512_srli_epi16(words, kBits * i);
    return _mm512_permutexvar_epi16(_mm512_ternarylogic_epi32(shifted, codes, second, kAndOr),
                                    table);
  }
};

/// Codes of 8 bits are values themselves, too many for tables: bytes become floats, 16 consecutive
/// words of a plane at a time, that is eight of the first channel or row and eight of the second,
/// in turns.
template <>
struct RangeReader<8> {
  static constexpr int kPlanes = 2;
  using Indices = std::make_integer_sequence<int, 2>;
  struct Table {
    __m512 scales, zeros;  // both, in turns
  };

  explicit RangeReader(const CodeBook&) {}

  [[gnu::always_inline]] static Table table(const float* scales, const float* zeros) {
    return {in_turns(scales), in_turns(zeros)};
  }
  template <int i>
  [[gnu::always_inline]] static __m512i plane(__m512i words, const Table& table) {
    const __m512 low = _mm512_fmadd_ps(values<8 * i>(words), table.scales, table.zeros);
    const __m512 high = _mm512_fmadd_ps(values<8 * i + 32>(words), table.scales, table.zeros);
    return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
  }

 private:
  static __m512 in_turns(const float* two) {
    long long bits;
    __builtin_memcpy(&bits, two, sizeof(bits));
    return _mm512_castsi512_ps(_mm512_set1_epi64(bits));
  }
  // Of eight bytes from `at` on, and of eight from `at` + 16 on.
  template <int at>
  [[gnu::always_inline]] static __m512 values(__m512i bytes) {
    const __m512i from =
        _mm512_setr_epi32(at, at + 1, at + 2, at + 3, at + 4, at + 5, at + 6, at + 7, at + 16,
                          at + 17, at + 18, at + 19, at + 20, at + 21, at + 22, at + 23);
    constexpr __mmask64 kLowest = 0x1111111111111111;  // byte of each dword
    return _mm512_maskz_cvtepi32_ps(0xffff, _mm512_maskz_permutexvar_epi8(kLowest, from, bytes));
  }
};

/// Where scales and zeros of channels of K, or of rows of V, become tables of elements, kPlanes of
/// them at once: `n_sets` planes p, p + 1 ... have them in common. Their groups stand `from_stride`
/// bytes apart, the sets of planes in the bf16 part `to_stride`, planes of a set `plane_stride`.
struct RangePlanes {
  const std::byte* codes;
  std::byte* bf16;
  std::size_t n_planes, n_sets;
  std::size_t from_stride, to_stride, plane_stride;

  static RangePlanes of_k(const CodeBook& book, const std::byte* part, BlockShape shape,
                          std::byte* bf16) {
    const std::size_t n_pairs = shape.head_dim / 2, n_tiles = shape.block_tokens / 16;
    return {part, bf16, n_pairs, n_tiles, n_pairs * 4 * book.bits, n_pairs * 64, 64};
  }
  static RangePlanes of_v(const CodeBook& book, const std::byte* part, BlockShape shape,
                          std::byte* bf16) {
    const std::size_t n_pairs = shape.block_tokens / 2, n_vectors = shape.head_dim / 16;
    const std::size_t plane_stride = std::size_t{shape.head_dim} * 4;
    return {part, bf16, n_pairs, n_vectors, n_pairs * 4 * book.bits, 64, plane_stride};
  }
};

/// Decodes the planes of a part whose scales and zeros are `halves`; calls fetch(line) for each
/// line of codes that it reads.
template <int kBits, class Fetch>
void decode_ranges(const CodeBook& book, const RangePlanes& planes, const std::byte* halves,
                   Fetch&& fetch) {
  using Reader = RangeReader<kBits>;
  const Reader reader(book);
  const std::size_t n_groups = 2 * planes.n_planes;
  alignas(64) float scales[kMaxHeadDim], zeros[kMaxHeadDim];
  read_halves(halves, n_groups, scales);
  read_halves(halves + 2 * n_groups, n_groups, zeros);
  const std::byte* codes = planes.codes;
  std::byte* bf16 = planes.bf16;
  for (std::size_t p = 0; p < planes.n_planes; p += Reader::kPlanes) {
    typename Reader::Table tables[Reader::kPlanes];
    for_each_of(
        typename Reader::Indices{}, [&](auto i) __attribute__((always_inline)) {
          tables[i()] = reader.table(scales + 2 * (p + i()), zeros + 2 * (p + i()));
        });
    for (std::size_t s = 0; s < planes.n_sets; ++s) {
      const std::byte* const from = codes + s * planes.from_stride;
      const __m512i words = _mm512_loadu_si512(from);
      fetch(from);
      std::byte* const to = bf16 + s * planes.to_stride;
      for_each_of(
          typename Reader::Indices{}, [&](auto i) __attribute__((always_inline)) {
            const __m512i elements = Reader::template plane<i()>(words, tables[i()]);
            _mm512_storeu_si512(to + i() * planes.plane_stride, elements);
          });
    }
    codes += 64;
    bf16 += Reader::kPlanes * planes.plane_stride;
  }
}

}  // namespace
}  // namespace larder::simd::avx512
