#include "tensor/packed.h"

#include <cstring>

#include "base/check.h"
#include "tensor/half.h"
#include "tensor/quant_blocks.h"

namespace larder {
namespace {

constexpr std::size_t kHeadBytes = kPanelRows * 2;  // the f16 scales of a group
constexpr std::uint32_t kSignedCodes =
    0x80808080U;  // flips four signed codes to code + 128, and back

/// Row r of a quantised panel: its scales, and its codes in pieces of four bytes.
template <class Block>
void pack_row(const std::byte* row, std::size_t r, std::size_t n_cols, std::uint32_t flip,
              std::byte* panel) {
  constexpr std::size_t kPieces = (sizeof(Block) - sizeof(Block::d)) / 4;
  constexpr std::size_t kGroupBytes = kHeadBytes + kPieces * kPanelRows * 4;
  for (std::size_t b = 0; b < n_cols / kSmallBlock; ++b) {
    const std::byte* block = row + b * sizeof(Block);
    std::byte* group = panel + b * kGroupBytes;
    std::memcpy(group + r * 2, block, 2);
    for (std::size_t i = 0; i < kPieces; ++i) {
      std::uint32_t piece = 0;
      std::memcpy(&piece, block + 2 + i * 4, 4);
      piece ^= flip;
      std::memcpy(group + kHeadBytes + (i * kPanelRows + r) * 4, &piece, 4);
    }
  }
}

void pack_bf16_row(const std::byte* row, std::size_t r, std::size_t n_cols, std::byte* panel) {
  for (std::size_t c = 0; c < n_cols; c += 2) {
    std::byte* pair = panel + (c / 2 * kPanelRows + r) * 4;
    std::memcpy(pair, row + c * 2, n_cols - c < 2 ? 2 : 4);
  }
}

template <class Block>
void decode_quantised_row(const std::byte* panel, std::size_t r, std::size_t n_cols,
                          std::uint32_t flip, float* out) {
  constexpr std::size_t kPieces = (sizeof(Block) - sizeof(Block::d)) / 4;
  for (std::size_t b = 0; b < n_cols / kSmallBlock; ++b) {
    Block block;
    std::memcpy(&block.d, panel + r * 2, 2);
    for (std::size_t i = 0; i < kPieces; ++i) {
      std::uint32_t piece = 0;
      std::memcpy(&piece, panel + kHeadBytes + (i * kPanelRows + r) * 4, 4);
      piece ^= flip;
      std::memcpy(block.q + i * 4, &piece, 4);
    }
    decode_block(block, out + b * kSmallBlock);
    panel += kHeadBytes + kPieces * kPanelRows * 4;
  }
}

void decode_bf16_row(const std::byte* panel, std::size_t r, std::size_t n_cols, float* out) {
  for (std::size_t c = 0; c < n_cols; ++c) {
    std::uint16_t u = 0;
    std::memcpy(&u, panel + (c / 2 * kPanelRows + r) * 4 + c % 2 * 2, 2);
    out[c] = bf16_to_f32(u);
  }
}

}  // namespace

bool can_pack(DType dtype) noexcept {
  return dtype == DType::q8_0 || dtype == DType::q4_0 || dtype == DType::bf16;
}

PackedGroup packed_group(DType dtype) noexcept {
  LARDER_CHECK(can_pack(dtype));
  if (dtype == DType::bf16) return {2, kPanelRows * 4};
  return {kSmallBlock, kPanelRows * row_bytes(dtype, kSmallBlock)};
}

std::size_t panel_bytes(DType dtype, std::size_t n_cols) noexcept {
  const PackedGroup group = packed_group(dtype);
  return (n_cols + group.n_cols - 1) / group.n_cols * group.n_bytes;
}

std::size_t packed_bytes(DType dtype, std::size_t n_rows, std::size_t n_cols) noexcept {
  return (n_rows + kPanelRows - 1) / kPanelRows * panel_bytes(dtype, n_cols);
}

void pack_panel(DType dtype, const std::byte* rows, std::size_t n_rows, std::size_t n_cols,
                std::byte* out) noexcept {
  LARDER_CHECK(n_rows <= kPanelRows);
  // Missing rows and columns are zeros (a code of zero with a scale of zero).
  if (n_rows < kPanelRows || n_cols % 2 != 0) std::memset(out, 0, panel_bytes(dtype, n_cols));
  const std::size_t stride = row_bytes(dtype, n_cols);
  for (std::size_t r = 0; r < n_rows; ++r, rows += stride) {
    if (dtype == DType::q8_0) {
      pack_row<BlockQ8_0>(rows, r, n_cols, kSignedCodes, out);
    } else if (dtype == DType::q4_0) {
      pack_row<BlockQ4_0>(rows, r, n_cols, 0, out);
    } else {
      pack_bf16_row(rows, r, n_cols, out);
    }
  }
}

void decode_packed_row(DType dtype, const std::byte* panels, std::size_t row, std::size_t n_cols,
                       float* out) noexcept {
  const std::byte* panel = panels + row / kPanelRows * panel_bytes(dtype, n_cols);
  const std::size_t r = row % kPanelRows;
  if (dtype == DType::q8_0) {
    decode_quantised_row<BlockQ8_0>(panel, r, n_cols, kSignedCodes, out);
  } else if (dtype == DType::q4_0) {
    decode_quantised_row<BlockQ4_0>(panel, r, n_cols, 0, out);
  } else {
    decode_bf16_row(panel, r, n_cols, out);
  }
}

}  // namespace larder
