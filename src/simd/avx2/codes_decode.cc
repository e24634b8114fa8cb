// Blocks of codes to bf16 blocks.
#include "simd/avx2/codes.h"
#include "simd/avx2/plane_readers.h"

namespace larder::simd::avx2 {
namespace {

constexpr std::size_t kLanes = 16;  // of a plane: two vectors

inline void store(std::byte* to, __m256i plane) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), plane);
}

// Consecutive planes; plane p goes to out + p * stride.
template <class Reader>
void decode(const Reader& reader, const std::byte* codes, std::size_t n_planes, Ranges ranges,
            std::byte* out, std::size_t stride) {
  for (std::size_t p = 0; p < n_planes; p += Reader::kPlanes) {
    for (int half = 0; half < 2; ++half) {
      for_each_of(
          typename Reader::TwoIndices{}, [&](auto i) __attribute__((always_inline)) {
            const auto two = reader.template load<i()>(codes + 32 * half);
            std::byte* const to = out + 2 * i() * stride + 32 * half;
            store(to, reader.template bf16<2 * i()>(two, ranges));
            store(to + stride, reader.template bf16<2 * i() + 1>(two, ranges));
          });
    }
    codes += Reader::kBytes;
    out += Reader::kPlanes * stride;
    ranges.scales += 2 * Reader::kPlanes;
    ranges.zeros += 2 * Reader::kPlanes;
    ranges.fours += 8 * Reader::kPlanes;
  }
}

}  // namespace

void decode_codes_k(const CodeBook& book, const std::byte* part, BlockShape shape,
                    std::byte* bf16) {
  PartScales<kMaxHeadDim> of;
  if (book.fit == CodeFit::range) of.read(book, part + code_bytes(book, shape), shape.head_dim);
  const std::size_t n_pairs = shape.head_dim / 2;
  with_reader(book, [&](const auto& reader) {
    for (std::size_t t = 0; t < shape.block_tokens / kLanes; ++t) {
      const std::byte* const tile = part + t * kLanes * shape.head_dim * book.bits / 8;
      decode(reader, tile, n_pairs, of.ranges(), bf16 + t * n_pairs * 64, 64);
    }
  });
}

void decode_codes_v(const CodeBook& book, const std::byte* part, BlockShape shape,
                    std::byte* bf16) {
  PartScales<kMaxBlockTokens> of;
  if (book.fit == CodeFit::range) of.read(book, part + code_bytes(book, shape), shape.block_tokens);
  const std::size_t lane_bytes = std::size_t{shape.block_tokens} * kLanes * book.bits / 8;
  with_reader(book, [&](const auto& reader) {
    for (std::size_t c = 0; c < shape.head_dim / kLanes; ++c) {
      decode(reader, part + c * lane_bytes, shape.block_tokens / 2, of.ranges(), bf16 + c * 64,
             std::size_t{shape.head_dim} * 4);
    }
  });
}

void read_halves(const std::byte* halves, std::size_t n, float* out) {
  for (std::size_t i = 0; i < n; i += 8) {
    const auto* const eight = reinterpret_cast<const __m128i*>(halves + 2 * i);
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(eight)));
  }
}

}  // namespace larder::simd::avx2
