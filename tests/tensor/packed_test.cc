#include "tensor/packed.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "tensor/buffer.h"
#include "tensor/huge_arena.h"
#include "tensor/quantize.h"

namespace larder {
namespace {

std::vector<std::byte> random_bytes(std::mt19937& rng, std::size_t n) {
  std::vector<std::byte> bytes(n);
  for (std::byte& b : bytes) b = static_cast<std::byte>(rng());
  return bytes;
}

/// Byte `i` of the codes or values of column group `group`, row `row`, as packed.h says.
std::byte at(const Buffer<std::byte>& panel, DType dtype, std::size_t group, std::size_t i,
             std::size_t row) {
  const std::size_t head = dtype == DType::bf16 ? 0 : 64;
  return panel[group * packed_group(dtype).n_bytes + head + i / 4 * 128 + row * 4 + i % 4];
}

TEST(Packed, BytesStandWhereTheLayoutSays) {
  std::mt19937 rng(1);
  for (const DType dtype : {DType::q8_0, DType::q4_0, DType::bf16}) {
    for (const std::size_t n_rows : {32U, 31U, 1U}) {
      const std::size_t n_cols = dtype == DType::bf16 ? 7 : 96, stride = row_bytes(dtype, n_cols);
      const auto rows = random_bytes(rng, n_rows * stride);
      Buffer<std::byte> panel(panel_bytes(dtype, n_cols));
      std::memset(panel.data(), 0x55, panel.size());
      pack_panel(dtype, rows.data(), n_rows, n_cols, panel.data());
      const std::size_t group_cols = packed_group(dtype).n_cols;
      const std::size_t n_codes = dtype == DType::q8_0 ? 32 : dtype == DType::q4_0 ? 16 : 4;
      const auto flip = static_cast<std::byte>(dtype == DType::q8_0 ? 0x80 : 0);
      for (std::size_t r = 0; r < kPanelRows; ++r) {
        for (std::size_t g = 0; g * group_cols < n_cols; ++g) {
          const bool has_scale = dtype != DType::bf16;
          const std::size_t from = r * stride + g * (n_codes + (has_scale ? 2 : 0));
          for (std::size_t i = 0; i < n_codes; ++i) {
            const bool exists = r < n_rows && (has_scale || g * 4 + i < stride);
            const std::byte expected =
                exists ? rows[from + (has_scale ? 2 : 0) + i] ^ flip : std::byte{0};
            ASSERT_EQ(at(panel, dtype, g, i, r), expected) << dtype_info(dtype).name;
          }
          if (!has_scale) continue;
          for (std::size_t i = 0; i < 2; ++i) {
            ASSERT_EQ(panel[g * packed_group(dtype).n_bytes + r * 2 + i],
                      r < n_rows ? rows[from + i] : std::byte{0});
          }
        }
      }
    }
  }
}

TEST(Packed, RowsDecodeAsInTheFile) {
  std::mt19937 rng(2);
  std::normal_distribution<float> normal;
  for (const DType dtype : {DType::q8_0, DType::q4_0, DType::bf16}) {
    const std::size_t n_cols = dtype == DType::bf16 ? 7 : 96, n_rows = 37;
    const std::size_t stride = row_bytes(dtype, n_cols);
    std::vector<std::byte> rows(n_rows * stride);
    std::vector<float> x(n_cols), expected(n_cols), got(n_cols);
    for (std::size_t r = 0; r < n_rows; ++r) {
      for (float& v : x) v = normal(rng);
      encode_row(dtype, x.data(), n_cols, rows.data() + r * stride);
    }
    Buffer<std::byte> panels(packed_bytes(dtype, n_rows, n_cols));
    pack_panel(dtype, rows.data(), 32, n_cols, panels.data());
    pack_panel(dtype, rows.data() + 32 * stride, 5, n_cols,
               panels.data() + panel_bytes(dtype, n_cols));
    for (std::size_t r = 0; r < n_rows; ++r) {
      decode_row(dtype, rows.data() + r * stride, n_cols, expected.data());
      decode_packed_row(dtype, panels.data(), r, n_cols, got.data());
      EXPECT_EQ(got, expected) << dtype_info(dtype).name << " " << r;
    }
  }
}

TEST(Packed, TakesAsManyBytesAsTheFile) {
  for (const DType dtype : {DType::q8_0, DType::q4_0, DType::bf16}) {
    EXPECT_EQ(packed_bytes(dtype, 320, 256), 320 * row_bytes(dtype, 256));
    EXPECT_EQ(packed_bytes(dtype, 321, 256), 352 * row_bytes(dtype, 256));
    EXPECT_EQ(packed_group(dtype).n_bytes % 64, 0U);
  }
  EXPECT_FALSE(can_pack(DType::f32) || can_pack(DType::q6_k) || can_pack(DType::f16));
}

TEST(HugeArena, HandsOutAlignedZeroedPieces) {
  auto arena = HugeArena::create(1000);
  ASSERT_TRUE(arena);
  std::byte* a = arena->take(65);
  HugeArena moved = std::move(*arena);
  std::byte* b = moved.take(800);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(a) % 64, 0U);
  EXPECT_EQ(b - a, 128);
  for (std::size_t i = 0; i < 800; ++i) ASSERT_EQ(b[i], std::byte{0});
  std::memset(b, 1, 800);
  EXPECT_TRUE(HugeArena::create(0));
  EXPECT_FALSE(HugeArena::create(~std::size_t{0} - 5));
}

}  // namespace
}  // namespace larder
