// Blocks of codes to bf16 blocks, a plane per vector.
#include "simd/avx512/codes.h"
#include "simd/avx512/planes.h"
#include "simd/avx512/range_planes.h"
#include "simd/by_number.h"

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

void decode_ranges(const CodeBook& book, const RangePlanes& planes, const std::byte* halves) {
  by_range_bits(book.bits,
                [&](auto n) { decode_ranges<n()>(book, planes, halves, [](const std::byte*) {}); });
}

}  // namespace

void decode_codes_k(const CodeBook& book, const std::byte* part, BlockShape shape,
                    std::byte* bf16) {
  if (book.fit == CodeFit::range) {
    const RangePlanes planes = RangePlanes::of_k(book, part, shape, bf16);
    return decode_ranges(book, planes, part + code_bytes(book, shape));
  }
  by_bits(book.bits, [&](auto n) { decode_k<n()>(book, part, shape, bf16); });
}

void decode_codes_v(const CodeBook& book, const std::byte* part, BlockShape shape,
                    std::byte* bf16) {
  if (book.fit == CodeFit::range) {
    const RangePlanes planes = RangePlanes::of_v(book, part, shape, bf16);
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
