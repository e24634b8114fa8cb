#include <array>

#include "simd/scalar/primitives.h"
#include "simd/simd.h"

namespace larder::simd {
namespace {

struct Available {
  std::array<const Table*, 3> tables{};
  std::size_t n = 0;
};

Available find_available() noexcept {
  Available a;
  a.tables[a.n++] = &scalar::kTable;
  return a;
}

}  // namespace

const Table& scalar_table() noexcept { return scalar::kTable; }

std::span<const Table* const> available() noexcept {
  static const Available found = find_available();
  return {found.tables.data(), found.n};
}

const Table& best() noexcept { return *available().back(); }

}  // namespace larder::simd
