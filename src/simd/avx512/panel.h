// Sixteen rows of quantised weights, unpacked for VNNI: what is multiplied with every row of x.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace larder::simd::avx512 {

inline constexpr std::size_t kPanelRows = 16;
inline constexpr std::size_t kChunkCols = 512;  // two panels and their x fit the first-level cache

/// Lanes are weight rows, so sums need no shuffling and a token's result has one order of additions
/// whatever is computed beside it. A weight is scale * (code - offset of the format) - min.
struct alignas(64) Panel {
  std::uint8_t codes[kChunkCols / 4][kPanelRows][4];  // four columns of a row side by side
  float scales[kChunkCols / 16][kPanelRows];          // per group of 32 (or 16) columns
  float mins[kChunkCols / 32][kPanelRows];            // formats with a minimum only
};

/// Sixteen rows of one format, from some block on, and the bytes that will be read after them.
struct PanelSource {
  const std::uint8_t* data;  // row r begins at data + r * stride
  std::size_t stride;
  std::size_t n_cols;  // at most kChunkCols
  const std::uint8_t* next;
};

/// Asks for part `i` of `n` of the next chunk, so that the requests spread over the unpacking.
inline void prefetch_part(const PanelSource& source, std::size_t row_bytes, std::size_t i,
                          std::size_t n) {
  for (std::size_t r = i * kPanelRows / n; r < (i + 1) * kPanelRows / n; ++r) {
    const auto* p = reinterpret_cast<const char*>(source.next + r * source.stride);
    for (std::size_t b = 0; b < row_bytes; b += 64) _mm_prefetch(p + b, _MM_HINT_T0);
  }
}

/// v[c], lane r = dword c of the 16 bytes at p + r * stride.
struct Columns {
  __m512i v[4];
};

inline __m128i load16(const std::uint8_t* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}

inline Columns load_columns(const std::uint8_t* p, std::size_t stride) {
  __m512i rows[4];  // 128-bit lane i of rows[j] is row 4 i + j
  for (std::size_t j = 0; j < 4; ++j) {
    const std::uint8_t* q = p + j * stride;
    __m512i v = _mm512_castsi128_si512(load16(q));
    v = _mm512_inserti32x4(v, load16(q + 4 * stride), 1);
    v = _mm512_inserti32x4(v, load16(q + 8 * stride), 2);
    rows[j] = _mm512_inserti32x4(v, load16(q + 12 * stride), 3);
  }
  const __m512i a = _mm512_unpacklo_epi32(rows[0], rows[1]);
  const __m512i b = _mm512_unpackhi_epi32(rows[0], rows[1]);
  const __m512i c = _mm512_unpacklo_epi32(rows[2], rows[3]);
  const __m512i d = _mm512_unpackhi_epi32(rows[2], rows[3]);
  return {{_mm512_unpacklo_epi64(a, c), _mm512_unpackhi_epi64(a, c), _mm512_unpacklo_epi64(b, d),
           _mm512_unpackhi_epi64(b, d)}};
}

inline int load_u32(const std::uint8_t* p) {
  int u = 0;
  std::memcpy(&u, p, sizeof u);
  return u;
}

/// Lane r = the dword at p + r * stride.
inline __m512i load_column(const std::uint8_t* p, std::size_t stride) {
  const auto four = [stride](const std::uint8_t* q) {
    return _mm_setr_epi32(load_u32(q), load_u32(q + stride), load_u32(q + 2 * stride),
                          load_u32(q + 3 * stride));
  };
  __m512i v = _mm512_castsi128_si512(four(p));
  v = _mm512_inserti32x4(v, four(p + 4 * stride), 1);
  v = _mm512_inserti32x4(v, four(p + 8 * stride), 2);
  return _mm512_inserti32x4(v, four(p + 12 * stride), 3);
}

/// The f16 in the low half of each lane.
inline __m512 low_f16(__m512i v) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v)); }
inline __m512 high_f16(__m512i v) { return low_f16(_mm512_srli_epi32(v, 16)); }

inline void store_codes(Panel& panel, std::size_t quad, __m512i codes) {
  _mm512_store_si512(panel.codes[quad], codes);
}

}  // namespace larder::simd::avx512
