#include "kv/slab_set.h"

#include <bit>

namespace larder {

SlabSet::SlabSet(std::size_t capacity) {
  std::size_t n_bits = capacity;
  do {
    n_bits = (n_bits + 63) / 64;
    levels_.emplace_back(n_bits, 0);
  } while (n_bits > 1);
}

void SlabSet::insert(std::uint32_t slab) {
  if (contains(slab)) return;
  ++size_;
  std::size_t i = slab;
  for (auto& level : levels_) {
    level[i / 64] |= std::uint64_t{1} << (i % 64);
    i /= 64;
  }
}

void SlabSet::erase(std::uint32_t slab) {
  if (!contains(slab)) return;
  --size_;
  std::size_t i = slab;
  for (auto& level : levels_) {
    level[i / 64] &= ~(std::uint64_t{1} << (i % 64));
    if (level[i / 64] != 0) return;  // the summaries above stay true
    i /= 64;
  }
}

bool SlabSet::contains(std::uint32_t slab) const {
  return (levels_.front()[slab / 64] >> (slab % 64) & 1U) != 0;
}

std::optional<std::uint32_t> SlabSet::lowest() const {
  if (size_ == 0) return std::nullopt;
  std::size_t i = 0;
  for (auto level = levels_.rbegin(); level != levels_.rend(); ++level) {
    i = i * 64 + static_cast<std::size_t>(std::countr_zero((*level)[i]));
  }
  return static_cast<std::uint32_t>(i);
}

}  // namespace larder
