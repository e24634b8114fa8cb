// Weight matrices rearranged for streaming: what the linear kernels read instead of file rows.
//
// A panel is 32 consecutive rows, the last one filled up with zeros; the panels of a matrix follow
// each other. Inside a panel the columns come in groups, the same columns of all 32 rows together:
//
//   q8_0  32 columns: [32 rows] f16 scales; [8][32 rows][4] bytes, code + 128 of 4 columns
//   q4_0  32 columns: [32 rows] f16 scales; [4][32 rows][4] bytes; byte j of piece i holds column
//         4 i + j in its low half and column 16 + 4 i + j in its high half, code + 8
//   bf16   2 columns: [32 rows][2] values; an odd number of columns is filled up with a zero
//
// So every vector of a kernel holds the same columns of 16 (or 8) rows and a panel is one run of
// memory, read once from its beginning to its end. The bytes are as many as in the file. Integers
// are little-endian. The layout lives in memory only and may change from version to version.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace larder {

inline constexpr std::size_t kPanelRows = 32;

/// Rows of a matrix, from the beginning of one of its panels on.
struct PackedRows {
  const std::byte* data;  // aligned to 64 bytes
  std::size_t n_rows;     // that exist; the last panel may be cut
  std::size_t n_cols;
};

/// Columns of a group and bytes of a group of one panel (multiple of 64).
struct PackedGroup {
  std::size_t n_cols;
  std::size_t n_bytes;
};

/// Types that have such a layout; the others are used as the file holds them.
bool can_pack(DType dtype) noexcept;
/// REQUIRES: can_pack(dtype).
PackedGroup packed_group(DType dtype) noexcept;
/// Bytes of one panel. REQUIRES: can_pack(dtype); n_cols a multiple of the type's block_elems.
std::size_t panel_bytes(DType dtype, std::size_t n_cols) noexcept;
/// Bytes of a whole matrix: its panels.
std::size_t packed_bytes(DType dtype, std::size_t n_rows, std::size_t n_cols) noexcept;

/// Rearranges `n_rows` (at most kPanelRows) file rows into the panel at `out` [panel_bytes].
void pack_panel(DType dtype, const std::byte* rows, std::size_t n_rows, std::size_t n_cols,
                std::byte* out) noexcept;
/// Row `row` of a packed matrix as floats [n_cols], the same as `decode_row` gives for the file's.
void decode_packed_row(DType dtype, const std::byte* panels, std::size_t row, std::size_t n_cols,
                       float* out) noexcept;

}  // namespace larder
