// Parts of ggml rows to unpacked parts (amx/ggml_rows.cc). Everything is inlined; nothing here is
// compiled on its own.
#pragma once

#include "simd/amx/kv_tiles.h"
#include "simd/avx512/ggml_planes.h"
#include "simd/integer_rows.h"

namespace larder::simd::amx {
namespace {

using avx512::Q4Planes;
using avx512::Q8Planes;

/// Integers below 2^8 of 16 bits to bf16.
inline __m512i to_bf16(__m512i x) {
  const __m512i low = _mm512_srai_epi32(_mm512_slli_epi32(x, 16), 16);
  const __m512i high = _mm512_srai_epi32(x, 16);
  constexpr __mmask16 kAll = 0xffff;
  const __m512i low_bits = _mm512_castps_si512(_mm512_maskz_cvtepi32_ps(kAll, low));
  const __m512i high_bits = _mm512_castps_si512(_mm512_maskz_cvtepi32_ps(kAll, high));
  return _mm512_or_si512(_mm512_srli_epi32(low_bits, 16), high_bits);
}

/// Planes with their biases, and pairs of V, as bf16. Of a word that is an index the lower five
/// bits count.
template <class Planes>
struct Elements;
template <>
struct Elements<Q8Planes> {
  template <int kPlane>
  [[gnu::always_inline]] static __m512i of_plane(__m512i plane) {
    return to_bf16(_mm512_sub_epi16(plane, _mm512_set1_epi16(Q8Planes::kBias[kPlane % 2])));
  }
  /// Two neighbouring rows of V.
  [[gnu::always_inline]] static void pairs(const std::byte* block, std::size_t row_bytes,
                                           __m512i (&out)[2]) {
    for (std::size_t i = 0; i < 2; ++i) {
      const __m512i even = bits_of_floats(block + 2 + 16 * i);
      const __m512i odd = bits_of_floats(block + row_bytes + 2 + 16 * i);
      out[i] = _mm512_or_si512(_mm512_srli_epi32(even, 16), odd);
    }
  }

 private:
  // Of bytes; the lower halves are zero.
  [[gnu::always_inline]] static __m512i bits_of_floats(const std::byte* bytes) {
    constexpr __mmask16 kAll = 0xffff;
    const __m512i x = _mm512_maskz_cvtepi8_epi32(kAll, avx512::load16(bytes));
    return _mm512_castps_si512(_mm512_maskz_cvtepi32_ps(kAll, x));
  }
};
template <>
struct Elements<Q4Planes> {
  template <int>
  [[gnu::always_inline]] static __m512i of_plane(__m512i plane) {
    const __m512i table = _mm512_inserti64x4(_mm512_castsi256_si512(both()), both(), 1);
    return _mm512_permutexvar_epi16(plane, table);
  }
  [[gnu::always_inline]] static void pairs(const std::byte* block, std::size_t row_bytes,
                                           __m512i (&out)[2]) {
    Q4Planes::pairs(block, row_bytes, out);
    // Numbers from 0 on at the places 0 to 7, negative ones at 24 to 31.
    const __m256i turned = _mm256_permute4x64_epi64(both(), 0x4e);
    const __m512i table = _mm512_inserti64x4(_mm512_castsi256_si512(turned), turned, 1);
    out[0] = _mm512_permutexvar_epi16(out[0], table);
    out[1] = _mm512_permutexvar_epi16(out[1], table);
  }

 private:
  // -8 to 7.
  [[gnu::always_inline]] static __m256i both() {
    return _mm256_setr_epi16(-0x3f00, -0x3f20, -0x3f40, -0x3f60, -0x3f80, -0x3fc0, -0x4000, -0x4080,
                             0, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0);
  }
};

/// Asks for what stands `ahead` of a part, line by line as it is read, see fetch_second_level.
class Fetcher {
 public:
  Fetcher(const std::byte* part, std::ptrdiff_t ahead, std::size_t n_bytes)
      : at_(part + ahead), end_(part + ahead + n_bytes) {}
  [[gnu::always_inline]] void next() {
    if (at_ >= end_) return;
    fetch_second_level(at_, 0, 1);
    at_ += 64;
  }

 private:
  const std::byte *at_, *end_;
};

template <class Planes>
inline std::size_t part_bytes(BlockShape shape) {
  return shape.block_tokens * (shape.head_dim / kGroupChannels) * Planes::kBlockBytes;
}

template <class Planes>
inline void unpack_k(const std::byte* part, std::ptrdiff_t ahead, BlockShape shape,
                     std::byte* elements) {
  const std::size_t n_groups = shape.head_dim / kGroupChannels;
  const std::size_t row_bytes = n_groups * Planes::kBlockBytes;
  Fetcher fetcher(part, ahead, part_bytes<Planes>(shape));
  for (std::size_t tile = 0; tile < shape.block_tokens; tile += kLanes) {
    for (std::size_t g = 0; g < n_groups; ++g, elements += kBTileBytes) {
      Planes::for_each_plane(
          part + tile * row_bytes + g * Planes::kBlockBytes,
          row_bytes, [&](auto p, __m512i plane) __attribute__((always_inline)) {
            _mm512_storeu_si512(elements + p() * 64,
                                Elements<Planes>::template of_plane<p()>(plane));
            if constexpr (p() % 2 == 0) fetcher.next();
          });
    }
  }
}

template <class Planes>
inline void unpack_v(const std::byte* part, std::ptrdiff_t ahead, BlockShape shape,
                     std::byte* elements) {
  const std::size_t n_groups = shape.head_dim / kGroupChannels;
  const std::size_t row_bytes = n_groups * Planes::kBlockBytes;
  Fetcher fetcher(part, ahead, part_bytes<Planes>(shape));
  for (std::size_t t = 0; t < shape.block_tokens; t += 2) {
    for (std::size_t g = 0; g < n_groups; ++g, elements += 128) {
      __m512i pairs[2];
      Elements<Planes>::pairs(part + t * row_bytes + g * Planes::kBlockBytes, row_bytes, pairs);
      _mm512_storeu_si512(elements, pairs[0]);
      _mm512_storeu_si512(elements + 64, pairs[1]);
      fetcher.next();
      fetcher.next();
    }
  }
}

}  // namespace
}  // namespace larder::simd::amx
