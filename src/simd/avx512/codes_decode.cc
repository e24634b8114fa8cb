// Blocks of codes to bf16 blocks, a plane per vector.
#include "simd/avx512/codes.h"
#include "simd/avx512/planes.h"
#include "simd/avx512/range_planes.h"
#include "simd/by_bits.h"

namespace larder::simd::avx512 {
namespace {

constexpr std::size_t kLanes = 16;

// Planes of consecutive groups; plane p goes to out + p * stride.
template <int kBits>
void decode(const PlaneReader<kBits>& reader, const std::byte* codes, std::size_t n_planes,
            std::byte* out, std::size_t stride) {
  using Reader = PlaneReader<kBits>;
  for (std::size_t p = 0; p < n_planes; p += Reader::kPlanes) {
    __m512i words[Reader::kWords];
    load_words(codes, words);
    for_each_of(
        typename Reader::Indices{}, [&](auto i) __attribute__((always_inline)) {
          _mm512_storeu_si512(out + i() * stride, reader.template plane<i()>(words));
        });
    codes += Reader::kWords * 64;
    out += Reader::kPlanes * stride;
  }
}

template <int kBits>
void decode_k(const CodeBook& book, const std::byte* part, BlockShape shape, std::byte* bf16) {
  const PlaneReader<kBits> reader(book);
  decode(reader, part, shape.block_tokens / kLanes * (shape.head_dim / 2), bf16, 64);
}

template <int kBits>
void decode_v(const CodeBook& book, const std::byte* part, BlockShape shape, std::byte* bf16) {
  const PlaneReader<kBits> reader(book);
  const std::size_t lane_bytes = shape.block_tokens * kLanes * kBits / 8;
  for (std::size_t c = 0; c < shape.head_dim / kLanes; ++c) {
    decode(reader, part + c * lane_bytes, shape.block_tokens / 2, bf16 + c * 64,
           std::size_t{shape.head_dim} * 4);
  }
}

// Where scales and zeros of channels of K, or of rows of V, become tables of elements, kPlanes of
// them at once: `n_sets` planes p, p + 1 ... have them in common. Their groups stand `from_stride`
// bytes apart, the sets of planes in the bf16 part `to_stride`, planes of a set `plane_stride`.
struct RangePlanes {
  const std::byte* codes;
  std::byte* bf16;
  std::size_t n_planes, n_sets;
  std::size_t from_stride, to_stride, plane_stride;
};

template <int kBits>
void decode_ranges(const CodeBook& book, const RangePlanes& planes, const std::byte* halves) {
  using Reader = RangeReader<kBits>;
  const Reader reader(book);
  const std::size_t n_groups = 2 * planes.n_planes;
  alignas(64) float scales[kMaxHeadDim], zeros[kMaxHeadDim];
  read_halves(halves, n_groups, scales);
  read_halves(halves + 2 * n_groups, n_groups, zeros);
  const std::byte* codes = planes.codes;
  std::byte* bf16 = planes.bf16;
  for (std::size_t p = 0; p < planes.n_planes; p += Reader::kPlanes) {
    __m512i tables[Reader::kPlanes];
    for_each_of(
        typename Reader::Indices{}, [&](auto i) __attribute__((always_inline)) {
          tables[i()] = reader.table(scales + 2 * (p + i()), zeros + 2 * (p + i()));
        });
    for (std::size_t s = 0; s < planes.n_sets; ++s) {
      const __m512i words = _mm512_loadu_si512(codes + s * planes.from_stride);
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

void decode_ranges(const CodeBook& book, const RangePlanes& planes, const std::byte* halves) {
  if (book.bits == 2) return decode_ranges<2>(book, planes, halves);
  return decode_ranges<4>(book, planes, halves);
}

}  // namespace

void decode_codes_k(const CodeBook& book, const std::byte* part, BlockShape shape,
                    std::byte* bf16) {
  if (book.fit == CodeFit::range) {
    const std::size_t n_pairs = shape.head_dim / 2;
    const RangePlanes planes{
        part,         bf16, n_pairs, shape.block_tokens / kLanes, n_pairs * 4 * book.bits,
        n_pairs * 64, 64};
    return decode_ranges(book, planes, part + code_bytes(book, shape));
  }
  by_bits(book.bits, [&](auto n) { decode_k<n()>(book, part, shape, bf16); });
}

void decode_codes_v(const CodeBook& book, const std::byte* part, BlockShape shape,
                    std::byte* bf16) {
  if (book.fit == CodeFit::range) {
    const std::size_t n_pairs = shape.block_tokens / 2;
    const RangePlanes planes{part,
                             bf16,
                             n_pairs,
                             shape.head_dim / kLanes,
                             n_pairs * 4 * book.bits,
                             64,
                             std::size_t{shape.head_dim} * 4};
    return decode_ranges(book, planes, part + code_bytes(book, shape));
  }
  by_bits(book.bits, [&](auto n) { decode_v<n()>(book, part, shape, bf16); });
}

void read_halves(const std::byte* halves, std::size_t n, float* out) {
  constexpr __mmask16 kAll = 0xffff;
  for (std::size_t i = 0; i < n; i += kLanes) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(halves + 2 * i));
    _mm512_storeu_ps(out + i, _mm512_maskz_cvtph_ps(kAll, half));
  }
}

}  // namespace larder::simd::avx512
