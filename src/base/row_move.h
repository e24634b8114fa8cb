// Rows of K and V on their way from block to block.
#pragma once

#include <cstdint>

#include "base/block_id.h"

namespace larder {

/// The K and V of one row of one KV head go to another place.
struct RowMove {
  BlockId from, to;
  std::uint32_t from_row, to_row;  // within their blocks
  bool operator==(const RowMove&) const = default;
};

}  // namespace larder
