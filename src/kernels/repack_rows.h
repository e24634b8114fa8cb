// Rows that change their place in a cache of sealed blocks.
#pragma once

#include <span>
#include <vector>

#include "base/row_move.h"
#include "kernels/attention.h"

namespace larder {

/// Whether rows of the layout's sealed blocks can be moved one by one, with their codes and scales,
/// so that none is rounded a second time.
bool moves_sealed_rows(const KvLayout& layout) noexcept;

/// Makes the moves of each KV head in order, into sealed blocks: rows of sealed blocks as they are,
/// rows of the open block encoded as when it is full. moves, open [n_kv_heads]; `n_open`: rows in
/// the open block, 0: there is none. REQUIRES: moves_sealed_rows, none of the blocks is raw; no
/// move reads what an earlier one of its head has overwritten, and no two heads write to the same
/// block.
void repack_rows(const Compute& compute, const KvLayout& layout, BlockShape shape,
                 std::span<const std::vector<RowMove>> moves, std::span<const BlockId> open,
                 std::uint32_t n_open);

}  // namespace larder
