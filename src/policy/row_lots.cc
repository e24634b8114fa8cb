#include "policy/row_lots.h"

#include <cstddef>

namespace larder {
namespace {

std::uint64_t mix(std::uint64_t x) noexcept {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

}  // namespace

void draw_lots(const Lot& lot, std::span<float> scores) noexcept {
  const std::uint64_t head = mix(mix((std::uint64_t{lot.seed} << 32) + lot.n_tokens) +
                                 ((std::uint64_t{lot.layer} << 32) + lot.kv_head));
  for (std::size_t i = 0; i < scores.size(); ++i) {
    scores[i] = static_cast<float>(mix(head + i) >> 40) * 0x1p-24F;
  }
}

}  // namespace larder
