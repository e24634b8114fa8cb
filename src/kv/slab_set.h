// A set of slab numbers that answers "which is the lowest?" in a few instructions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace larder {

/// A subset of [0, capacity) as a bitmap with summaries: bit i of a level says whether word i of
/// the level below has any bit. All operations cost one word per level (three levels reach 262144
/// slabs). Lowest first keeps live slabs together at the start of the range, so that the memory in
/// use stays dense and the same run always gives the same addresses. Not thread-safe. Allocates in
/// the constructor only.
class SlabSet {
 public:
  SlabSet() = default;
  explicit SlabSet(std::size_t capacity);

  void insert(std::uint32_t slab);
  void erase(std::uint32_t slab);
  bool contains(std::uint32_t slab) const;
  std::optional<std::uint32_t> lowest() const;
  std::size_t size() const noexcept { return size_; }

 private:
  std::vector<std::vector<std::uint64_t>> levels_;  // [0] holds the slabs; the last is one word
  std::size_t size_ = 0;
};

}  // namespace larder
