#include <cstring>

#include "simd/scalar/primitives.h"
#include "tensor/half.h"

namespace larder::simd::scalar {
namespace {

constexpr std::size_t kHeadBytes = kPanelRows * 2, kPieceBytes = kPanelRows * 4;

std::uint16_t load_u16(const std::byte* p) {
  std::uint16_t u = 0;
  std::memcpy(&u, p, sizeof u);
  return u;
}

/// The code of column c of row r of a group of 32 columns, less the format's offset.
struct Q8_0 {
  static constexpr std::size_t bytes = 8 * kPieceBytes;
  static int code(const std::byte* codes, std::size_t r, std::size_t c) {
    return std::to_integer<int>(codes[c / 4 * kPieceBytes + r * 4 + c % 4]) - 128;
  }
};
struct Q4_0 {
  static constexpr std::size_t bytes = 4 * kPieceBytes;
  static int code(const std::byte* codes, std::size_t r, std::size_t c) {
    const std::size_t low = c % 16;
    const int both = std::to_integer<int>(codes[low / 4 * kPieceBytes + r * 4 + low % 4]);
    return (c < 16 ? both & 15 : both >> 4) - 8;
  }
};

/// One row of x in its tile of h rows.
struct XRow {
  const std::byte* tile;
  std::size_t h, t;

  XRow(const Q8Tiles& x, std::size_t n_x, std::size_t row) : t(row % kQ8TileRows) {
    const std::size_t first = row - t;
    tile = x.data + first * (x.n_cols / 32) * kQ8GroupBytes;
    h = n_x - first < kQ8TileRows ? n_x - first : kQ8TileRows;
  }
  float scale(std::size_t g) const {
    float f = 0;
    std::memcpy(&f, tile + g * h * kQ8GroupBytes + t * 4, sizeof f);
    return f;
  }
  int code(std::size_t g, std::size_t c) const {
    const std::byte* quad = tile + g * h * kQ8GroupBytes + ((3 + c / 4) * h + t) * 4;
    return static_cast<std::int8_t>(quad[c % 4]);
  }
};

template <class Format>
void packed_q8(const PackedRows& w, const Q8Tiles& x, std::size_t n_x, float* out,
               std::size_t ld_out) {
  constexpr std::size_t kGroupBytes = kHeadBytes + Format::bytes;
  const std::size_t n_groups = w.n_cols / 32;
  for (std::size_t i = 0; i < w.n_rows; ++i) {
    const std::size_t r = i % kPanelRows;
    const std::byte* panel = w.data + i / kPanelRows * n_groups * kGroupBytes;
    for (std::size_t t = 0; t < n_x; ++t) {
      const XRow row(x, n_x, t);
      float sum = 0;
      for (std::size_t g = 0; g < n_groups; ++g) {
        const std::byte* group = panel + g * kGroupBytes;
        std::int32_t dot = 0;
        for (std::size_t c = 0; c < 32; ++c) {
          dot += Format::code(group + kHeadBytes, r, c) * row.code(g, c);
        }
        sum += static_cast<float>(dot) * (f16_to_f32(load_u16(group + r * 2)) * row.scale(g));
      }
      out[t * ld_out + i] = sum;
    }
  }
}

}  // namespace

void packed_q8_0(const PackedRows& w, const Q8Tiles& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  packed_q8<Q8_0>(w, x, n_x, out, ld_out);
}

void packed_q4_0(const PackedRows& w, const Q8Tiles& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  packed_q8<Q4_0>(w, x, n_x, out, ld_out);
}

void packed_bf16(const PackedRows& w, const Bf16Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  const std::size_t n_pairs = (w.n_cols + 1) / 2;
  for (std::size_t i = 0; i < w.n_rows; ++i) {
    const std::byte* panel = w.data + i / kPanelRows * n_pairs * kPieceBytes;
    for (std::size_t t = 0; t < n_x; ++t) {
      float sum = 0;
      for (std::size_t c = 0; c < w.n_cols; ++c) {
        const std::byte* p = panel + c / 2 * kPieceBytes + i % kPanelRows * 4 + c % 2 * 2;
        sum += bf16_to_f32(load_u16(p)) * bf16_to_f32(x.v[t * x.stride + c]);
      }
      out[t * ld_out + i] = sum;
    }
  }
}

void round_bf16(const float* x, std::size_t n_rows, std::size_t n_cols, const Bf16Rows& rows) {
  for (std::size_t t = 0; t < n_rows; ++t) {
    std::uint16_t* to = rows.v + t * rows.stride;
    for (std::size_t c = 0; c < n_cols; ++c) to[c] = f32_to_bf16(x[t * n_cols + c]);
    for (std::size_t c = n_cols; c < rows.stride; ++c) to[c] = 0;
  }
}

}  // namespace larder::simd::scalar
