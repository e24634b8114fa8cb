// How the tiles of x of linear layers stand in memory: by chunks of columns, so that what is used
// together lies together, as [chunk][row or tile of rows][group of the chunk].
#pragma once

#include <cstddef>

namespace larder::simd::amx {

/// Groups of 32 columns in chunks of at most `largest`, as equal as they can be. `n_rows` counts
/// rows, or tiles of them.
struct Chunks {
  std::size_t n_groups, n_rows, largest;

  std::size_t n() const { return (n_groups + largest - 1) / largest; }
  std::size_t first(std::size_t chunk) const { return n_groups * chunk / n(); }
  std::size_t size(std::size_t chunk) const { return first(chunk + 1) - first(chunk); }
  /// Where the groups of a row of a chunk begin, counted in groups of one row.
  std::size_t at(std::size_t chunk, std::size_t row) const {
    return first(chunk) * n_rows + row * size(chunk);
  }
};

}  // namespace larder::simd::amx
