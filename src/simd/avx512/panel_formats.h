// Each weight format: its constants and how sixteen rows of it become a panel.
// The bytes of a block are described in simd/scalar/weight_blocks.h.
#pragma once

#include "simd/avx512/panel.h"

namespace larder::simd::avx512 {

inline __m512i bytes_of(int value) { return _mm512_set1_epi8(static_cast<char>(value)); }
inline __m512i low_nibbles(__m512i v) { return _mm512_and_si512(v, bytes_of(15)); }
inline __m512i high_nibbles(__m512i v) { return low_nibbles(_mm512_srli_epi16(v, 4)); }

struct Q8_0 {
  static constexpr std::size_t block_elems = 32, block_bytes = 34, group = 32;
  static constexpr bool has_min = false;
  static constexpr int offset = 128;

  static void unpack(const PanelSource& source, Panel& panel) {
    const std::size_t n_blocks = source.n_cols / 32;
    for (std::size_t b = 0; b < n_blocks; ++b) {
      prefetch_part(source, n_blocks * block_bytes, b, n_blocks);
      const std::uint8_t* p = source.data + b * block_bytes;
      _mm512_store_ps(panel.scales[b], low_f16(load_column(p, source.stride)));
      for (std::size_t half = 0; half < 2; ++half) {
        const Columns codes = load_columns(p + 2 + 16 * half, source.stride);
        for (std::size_t c = 0; c < 4; ++c) {
          store_codes(panel, b * 8 + half * 4 + c, _mm512_xor_si512(codes.v[c], bytes_of(0x80)));
        }
      }
    }
  }
};

/// Bits 4 i .. 4 i + 3 of each lane as 0 or 16 in its four bytes.
inline __m512i fifth_bits(__m512i bits, int i) {
  const __m512i spread = _mm512_shuffle_epi8(
      bits,
      _mm512_add_epi8(_mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0), bytes_of(i / 2)));
  const __m512i pick = _mm512_set1_epi32(i % 2 == 0 ? 0x08040201 : 0x80402010);
  return _mm512_maskz_mov_epi8(_mm512_test_epi8_mask(spread, pick), bytes_of(16));
}

/// Q4_0, Q4_1, Q5_0, Q5_1.
template <int kBits, bool kMin>
struct Nibbles32 {
  static constexpr std::size_t block_elems = 32, group = 32;
  static constexpr std::size_t head_bytes = kMin ? 4 : 2, high_bytes = kBits == 5 ? 4 : 0;
  static constexpr std::size_t block_bytes = head_bytes + high_bytes + 16;
  static constexpr bool has_min = kMin;
  static constexpr int offset = kMin ? 0 : 1 << (kBits - 1);

  static void unpack(const PanelSource& source, Panel& panel) {
    const std::size_t n_blocks = source.n_cols / 32;
    for (std::size_t b = 0; b < n_blocks; ++b) {
      prefetch_part(source, n_blocks * block_bytes, b, n_blocks);
      const std::uint8_t* p = source.data + b * block_bytes;
      const __m512i head = load_column(p, source.stride);
      _mm512_store_ps(panel.scales[b], low_f16(head));
      if constexpr (kMin) {
        _mm512_store_ps(panel.mins[b], _mm512_xor_ps(high_f16(head), _mm512_set1_ps(-0.0F)));
      }
      __m512i bits = _mm512_setzero_si512();
      if constexpr (kBits == 5) bits = load_column(p + head_bytes, source.stride);
      const Columns nibbles = load_columns(p + head_bytes + high_bytes, source.stride);
      for (int c = 0; c < 4; ++c) {
        __m512i low = low_nibbles(nibbles.v[c]), high = high_nibbles(nibbles.v[c]);
        if constexpr (kBits == 5) {
          low = _mm512_or_si512(low, fifth_bits(bits, c));
          high = _mm512_or_si512(high, fifth_bits(bits, c + 4));
        }
        store_codes(panel, b * 8 + static_cast<std::size_t>(c), low);
        store_codes(panel, b * 8 + 4 + static_cast<std::size_t>(c), high);
      }
    }
  }
};

inline __m512 byte_as_float(__m512i v, unsigned i) {
  return _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(v, 8 * i), _mm512_set1_epi32(255)));
}

/// Q4_K, Q5_K.
template <int kBits>
struct NibblesK {
  static constexpr std::size_t block_elems = 256, group = 32;
  static constexpr std::size_t high_bytes = kBits == 5 ? 32 : 0;
  static constexpr std::size_t block_bytes = 16 + high_bytes + 128;
  static constexpr bool has_min = true;
  static constexpr int offset = 0;

  static void unpack_head(const Columns& head, float (*scales)[kPanelRows],
                          float (*mins)[kPanelRows]) {
    const __m512 d = low_f16(head.v[0]), d_min = high_f16(head.v[0]);
    const __m512i six = bytes_of(63), top = bytes_of(48);
    const __m512i a = head.v[1], b = head.v[2], c = head.v[3];
    const __m512i scale_codes[2] = {
        _mm512_and_si512(a, six),
        _mm512_or_si512(low_nibbles(c), _mm512_and_si512(_mm512_srli_epi16(a, 2), top))};
    const __m512i min_codes[2] = {
        _mm512_and_si512(b, six),
        _mm512_or_si512(high_nibbles(c), _mm512_and_si512(_mm512_srli_epi16(b, 2), top))};
    for (unsigned j = 0; j < 8; ++j) {
      _mm512_store_ps(scales[j], _mm512_mul_ps(d, byte_as_float(scale_codes[j / 4], j % 4)));
      _mm512_store_ps(mins[j], _mm512_mul_ps(d_min, byte_as_float(min_codes[j / 4], j % 4)));
    }
  }

  static void unpack(const PanelSource& source, Panel& panel) {
    const std::size_t n_blocks = source.n_cols / 256;
    for (std::size_t b = 0; b < n_blocks; ++b) {
      const std::uint8_t* p = source.data + b * block_bytes;
      unpack_head(load_columns(p, source.stride), panel.scales + b * 8, panel.mins + b * 8);
      for (std::size_t half = 0; half < 2; ++half) {  // of each run of 32 columns
        Columns bits{};
        if constexpr (kBits == 5) bits = load_columns(p + 16 + 16 * half, source.stride);
        for (std::size_t j = 0; j < 4; ++j) {
          prefetch_part(source, n_blocks * block_bytes, b * 8 + half * 4 + j, n_blocks * 8);
          const Columns nibbles =
              load_columns(p + 16 + high_bytes + j * 32 + 16 * half, source.stride);
          for (std::size_t c = 0; c < 4; ++c) {
            __m512i low = low_nibbles(nibbles.v[c]), high = high_nibbles(nibbles.v[c]);
            if constexpr (kBits == 5) {
              const auto at = static_cast<unsigned>(2 * j);
              const __m512i pair = _mm512_srli_epi16(bits.v[c], at);  // bits 0, 1 of every byte
              low =
                  _mm512_or_si512(low, _mm512_and_si512(_mm512_slli_epi16(pair, 4), bytes_of(16)));
              high =
                  _mm512_or_si512(high, _mm512_and_si512(_mm512_slli_epi16(pair, 3), bytes_of(16)));
            }
            const std::size_t quad = b * 64 + j * 16 + half * 4 + c;
            store_codes(panel, quad, low);
            store_codes(panel, quad + 8, high);
          }
        }
      }
    }
  }
};

struct Q6_K {
  static constexpr std::size_t block_elems = 256, block_bytes = 210, group = 16;
  static constexpr bool has_min = false;
  static constexpr int offset = 32;

  static void unpack_scales(const std::uint8_t* p, std::size_t stride,
                            float (*scales)[kPanelRows]) {
    // The dword that ends with the f16 at byte 208, so that nothing past the block is read.
    const __m512 d = high_f16(load_column(p + 206, stride));
    const Columns codes = load_columns(p + 192, stride);
    for (unsigned j = 0; j < 16; ++j) {
      const __m512i code =
          _mm512_srai_epi32(_mm512_slli_epi32(codes.v[j / 4], 24 - 8 * (j % 4)), 24);
      _mm512_store_ps(scales[j], _mm512_mul_ps(d, _mm512_cvtepi32_ps(code)));
    }
  }

  /// Sixteen columns of each of the four runs of one half of a block.
  static void unpack_part(const std::uint8_t* low, const std::uint8_t* high, std::size_t stride,
                          Panel& panel, std::size_t quad) {
    const Columns a = load_columns(low, stride), b = load_columns(low + 32, stride);
    const Columns h = load_columns(high, stride);
    const __m512i top = bytes_of(48);
    for (std::size_t c = 0; c < 4; ++c) {
      const __m512i bits = h.v[c];
      const __m512i b0 = _mm512_and_si512(_mm512_slli_epi16(bits, 4), top);
      const __m512i b1 = _mm512_and_si512(_mm512_slli_epi16(bits, 2), top);
      const __m512i b2 = _mm512_and_si512(bits, top);
      const __m512i b3 = _mm512_and_si512(_mm512_srli_epi16(bits, 2), top);
      store_codes(panel, quad + c, _mm512_or_si512(low_nibbles(a.v[c]), b0));
      store_codes(panel, quad + c + 8, _mm512_or_si512(low_nibbles(b.v[c]), b1));
      store_codes(panel, quad + c + 16, _mm512_or_si512(high_nibbles(a.v[c]), b2));
      store_codes(panel, quad + c + 24, _mm512_or_si512(high_nibbles(b.v[c]), b3));
    }
  }

  static void unpack(const PanelSource& source, Panel& panel) {
    const std::size_t n_blocks = source.n_cols / 256;
    for (std::size_t b = 0; b < n_blocks; ++b) {
      const std::uint8_t* p = source.data + b * block_bytes;
      unpack_scales(p, source.stride, panel.scales + b * 16);
      for (std::size_t part = 0; part < 4; ++part) {  // halves of halves
        prefetch_part(source, n_blocks * block_bytes, b * 4 + part, n_blocks * 4);
        const std::size_t half = part / 2, side = part % 2;
        unpack_part(p + half * 64 + side * 16, p + 128 + half * 32 + side * 16, source.stride,
                    panel, b * 64 + half * 32 + side * 4);
      }
    }
  }
};

}  // namespace larder::simd::avx512
