// Each quantised weight format: its constants and how rows of it become a panel. The bytes of a
// block are described in simd/scalar/weight_blocks.h; what V is, in simd/panel.h.
#pragma once

#include "simd/panel.h"

namespace larder::simd {

template <class V>
typename V::Ints low_nibbles(typename V::Ints v) {
  return v & V::bytes(15);
}
template <class V>
typename V::Ints high_nibbles(typename V::Ints v) {
  return V::shift_right(v, 4) & V::bytes(15);
}

template <class V>
struct Q8_0 {
  static constexpr std::size_t block_elems = 32, block_bytes = 34, group = 32;
  static constexpr bool has_min = false;
  static constexpr int bits = 8, offset = V::kSignedBytes ? 0 : 128;

  static void unpack(const PanelSource& source, Panel<V>& panel) {
    const std::size_t n_blocks = source.n_cols / 32;
    const auto flip = V::bytes(V::kSignedBytes ? 0 : 0x80);
    for (std::size_t b = 0; b < n_blocks; ++b) {
      prefetch_part<V>(source, n_blocks * block_bytes, b, n_blocks);
      const std::uint8_t* p = source.data + b * block_bytes;
      V::store(panel.scales[b], V::low_f16(V::load_column(p, source.stride)));
      for (std::size_t half = 0; half < 2; ++half) {
        const auto codes = V::load_columns(p + 2 + 16 * half, source.stride);
        for (std::size_t c = 0; c < 4; ++c) {
          V::store(panel.codes[b * 8 + half * 4 + c], codes.v[c] ^ flip);
        }
      }
    }
  }
};

/// Q4_0, Q4_1, Q5_0, Q5_1.
template <class V, int kBits, bool kMin>
struct Nibbles32 {
  static constexpr std::size_t block_elems = 32, group = 32;
  static constexpr std::size_t head_bytes = kMin ? 4 : 2, high_bytes = kBits == 5 ? 4 : 0;
  static constexpr std::size_t block_bytes = head_bytes + high_bytes + 16;
  static constexpr bool has_min = kMin;
  static constexpr int bits = kBits, offset = kMin ? 0 : 1 << (kBits - 1);

  static void unpack(const PanelSource& source, Panel<V>& panel) {
    const std::size_t n_blocks = source.n_cols / 32;
    for (std::size_t b = 0; b < n_blocks; ++b) {
      prefetch_part<V>(source, n_blocks * block_bytes, b, n_blocks);
      const std::uint8_t* p = source.data + b * block_bytes;
      const auto head = V::load_column(p, source.stride);
      V::store(panel.scales[b], V::low_f16(head));
      if constexpr (kMin) V::store(panel.mins[b], -V::high_f16(head));
      auto high_bits = V::bytes(0);
      if constexpr (kBits == 5) high_bits = V::load_column(p + head_bytes, source.stride);
      const auto nibbles = V::load_columns(p + head_bytes + high_bytes, source.stride);
      for (std::size_t c = 0; c < 4; ++c) {
        auto low = low_nibbles<V>(nibbles.v[c]), high = high_nibbles<V>(nibbles.v[c]);
        if constexpr (kBits == 5) {
          low |= V::fifth_bits(high_bits, static_cast<int>(c));
          high |= V::fifth_bits(high_bits, static_cast<int>(c) + 4);
        }
        V::store(panel.codes[b * 8 + c], low);
        V::store(panel.codes[b * 8 + 4 + c], high);
      }
    }
  }
};

/// Q4_K, Q5_K.
template <class V, int kBits>
struct NibblesK {
  static constexpr std::size_t block_elems = 256, group = 32;
  static constexpr std::size_t high_bytes = kBits == 5 ? 32 : 0;
  static constexpr std::size_t block_bytes = 16 + high_bytes + 128;
  static constexpr bool has_min = true;
  static constexpr int bits = kBits, offset = 0;

  static void unpack_head(const std::uint8_t* p, std::size_t stride, float (*scales)[V::kRows],
                          float (*mins)[V::kRows]) {
    const auto head = V::load_columns(p, stride);
    const auto d = V::low_f16(head.v[0]), d_min = V::high_f16(head.v[0]);
    const auto six = V::bytes(63), top = V::bytes(48);
    const auto a = head.v[1], b = head.v[2], c = head.v[3];
    const typename V::Ints scale_codes[2] = {a & six,
                                             low_nibbles<V>(c) | (V::shift_right(a, 2) & top)};
    const typename V::Ints min_codes[2] = {b & six,
                                           high_nibbles<V>(c) | (V::shift_right(b, 2) & top)};
    for (unsigned j = 0; j < 8; ++j) {
      const auto byte = [j](const typename V::Ints(&codes)[2]) {
        return V::to_floats(V::shift_down(codes[j / 4], 8 * (j % 4)) & V::dwords(255));
      };
      V::store(scales[j], d * byte(scale_codes));
      V::store(mins[j], d_min * byte(min_codes));
    }
  }

  static void unpack(const PanelSource& source, Panel<V>& panel) {
    const std::size_t n_blocks = source.n_cols / 256, stride = source.stride;
    for (std::size_t b = 0; b < n_blocks; ++b) {
      const std::uint8_t* p = source.data + b * block_bytes;
      unpack_head(p, stride, panel.scales + b * 8, panel.mins + b * 8);
      for (std::size_t half = 0; half < 2; ++half) {  // of each run of 32 columns
        [[maybe_unused]] const auto high_bits = V::load_columns(p + 16 + 16 * half, stride);
        for (std::size_t j = 0; j < 4; ++j) {
          prefetch_part<V>(source, n_blocks * block_bytes, b * 8 + half * 4 + j, n_blocks * 8);
          const auto nibbles = V::load_columns(p + 16 + high_bytes + j * 32 + 16 * half, stride);
          for (std::size_t c = 0; c < 4; ++c) {
            auto low = low_nibbles<V>(nibbles.v[c]), high = high_nibbles<V>(nibbles.v[c]);
            if constexpr (kBits == 5) {
              const auto pair = V::shift_right(high_bits.v[c], static_cast<int>(2 * j));
              low |= V::shift_left(pair, 4) & V::bytes(16);
              high |= V::shift_left(pair, 3) & V::bytes(16);
            }
            const std::size_t quad = b * 64 + j * 16 + half * 4 + c;
            V::store(panel.codes[quad], low);
            V::store(panel.codes[quad + 8], high);
          }
        }
      }
    }
  }
};

template <class V>
struct Q6_K {
  static constexpr std::size_t block_elems = 256, block_bytes = 210, group = 16;
  static constexpr bool has_min = false;
  static constexpr int bits = 6, offset = 32;

  static void unpack_scales(const std::uint8_t* p, std::size_t stride, float (*scales)[V::kRows]) {
    // The dword that ends with the f16 at byte 208, so that nothing past the block is read.
    const auto d = V::high_f16(V::load_column(p + 206, stride));
    const auto codes = V::load_columns(p + 192, stride);
    for (unsigned j = 0; j < 16; ++j) {
      V::store(scales[j], d * V::to_floats(V::byte_sign(codes.v[j / 4], j % 4)));
    }
  }

  /// Sixteen columns of each of the four runs of one half of a block.
  static void unpack_part(const std::uint8_t* low, const std::uint8_t* high, std::size_t stride,
                          Panel<V>& panel, std::size_t quad) {
    const auto a = V::load_columns(low, stride), b = V::load_columns(low + 32, stride);
    const auto h = V::load_columns(high, stride);
    const auto top = V::bytes(48);
    for (std::size_t c = 0; c < 4; ++c) {
      const auto bits_of_run = h.v[c];
      V::store(panel.codes[quad + c],
               low_nibbles<V>(a.v[c]) | (V::shift_left(bits_of_run, 4) & top));
      V::store(panel.codes[quad + c + 8],
               low_nibbles<V>(b.v[c]) | (V::shift_left(bits_of_run, 2) & top));
      V::store(panel.codes[quad + c + 16], high_nibbles<V>(a.v[c]) | (bits_of_run & top));
      V::store(panel.codes[quad + c + 24],
               high_nibbles<V>(b.v[c]) | (V::shift_right(bits_of_run, 2) & top));
    }
  }

  static void unpack(const PanelSource& source, Panel<V>& panel) {
    const std::size_t n_blocks = source.n_cols / 256;
    for (std::size_t b = 0; b < n_blocks; ++b) {
      const std::uint8_t* p = source.data + b * block_bytes;
      unpack_scales(p, source.stride, panel.scales + b * 16);
      for (std::size_t part = 0; part < 4; ++part) {  // halves of halves
        prefetch_part<V>(source, n_blocks * block_bytes, b * 4 + part, n_blocks * 4);
        const std::size_t half = part / 2, side = part % 2;
        unpack_part(p + half * 64 + side * 16, p + 128 + half * 32 + side * 16, source.stride,
                    panel, b * 64 + half * 32 + side * 4);
      }
    }
  }
};

}  // namespace larder::simd
