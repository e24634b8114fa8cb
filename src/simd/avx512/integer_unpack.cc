// Parts of ggml blocks to integer parts, for runs that many queries read.
#include "simd/avx512/ggml_planes.h"
#include "simd/avx512/integer_rows.h"
#include "simd/ggml_scales.h"
#include "simd/integer_rows.h"

namespace larder::simd::avx512 {
namespace {

constexpr std::size_t kLanes = 16;

template <class Planes>
void unpack_k(const std::byte* part, BlockShape shape, std::byte* integers) {
  const std::size_t n_groups = shape.head_dim / kGroupChannels;
  const std::size_t row_bytes = n_groups * Planes::kBlockBytes;
  std::byte* to = integers;
  for (std::size_t tile = 0; tile < shape.block_tokens; tile += kLanes) {
    for (std::size_t g = 0; g < n_groups; ++g, to += kLanes * 64) {
      Planes::for_each_plane(
          part + tile * row_bytes + g * Planes::kBlockBytes,
          row_bytes, [&](auto p, __m512i plane) __attribute__((always_inline)) {
            const __m512i bias = _mm512_set1_epi16(Planes::kBias[p() % 2]);
            _mm512_storeu_si512(to + p() * 64, _mm512_sub_epi16(plane, bias));
          });
    }
  }
  unpack_scales(part, Planes::kBlockBytes, shape, integers + integer_bytes(shape));
}

template <class Planes>
void unpack_v(const std::byte* part, BlockShape shape, std::byte* integers) {
  const std::size_t n_groups = shape.head_dim / kGroupChannels;
  const std::size_t row_bytes = n_groups * Planes::kBlockBytes;
  std::byte* to = integers;
  for (std::size_t t = 0; t < shape.block_tokens; t += 2) {
    for (std::size_t g = 0; g < n_groups; ++g, to += 128) {
      __m512i pairs[2];
      Planes::pairs(part + t * row_bytes + g * Planes::kBlockBytes, row_bytes, pairs);
      Planes::in_order(pairs);
      _mm512_storeu_si512(to, pairs[0]);
      _mm512_storeu_si512(to + 64, pairs[1]);
    }
  }
  unpack_scales(part, Planes::kBlockBytes, shape, integers + integer_bytes(shape));
}

}  // namespace

void unpack_q8_0_k(const std::byte* part, BlockShape shape, std::byte* integers) {
  unpack_k<Q8Planes>(part, shape, integers);
}
void unpack_q8_0_v(const std::byte* part, BlockShape shape, std::byte* integers) {
  unpack_v<Q8Planes>(part, shape, integers);
}
void unpack_q4_0_k(const std::byte* part, BlockShape shape, std::byte* integers) {
  unpack_k<Q4Planes>(part, shape, integers);
}
void unpack_q4_0_v(const std::byte* part, BlockShape shape, std::byte* integers) {
  unpack_v<Q4Planes>(part, shape, integers);
}

}  // namespace larder::simd::avx512
