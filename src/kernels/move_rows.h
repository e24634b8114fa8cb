// Rows that change their place in the cache.
#pragma once

#include <span>
#include <vector>

#include "base/row_move.h"
#include "kernels/attention.h"

namespace larder {

/// Makes the moves of each KV head in order, to the bit. moves [n_kv_heads]; blocks of the layout
/// have raw formats. REQUIRES: no move reads what an earlier one of its head has overwritten, and
/// no two heads write to the same block.
void move_rows(const Compute& compute, const KvLayout& layout, const KvShape& shape,
               std::span<const std::vector<RowMove>> moves);

}  // namespace larder
