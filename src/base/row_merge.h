// Rows of a cache that take up others.
#pragma once

#include <cstdint>

namespace larder {

/// A dropped row that a kept one takes up: value[to] += weight * value[from].
struct RowMerge {
  std::uint32_t from;  // place among the stored rows
  std::uint32_t to;    // place among the kept ones
  float weight;
};

}  // namespace larder
