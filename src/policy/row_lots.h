// Scores by lot.
#pragma once

#include <cstdint>
#include <span>

namespace larder {

struct Lot {
  std::uint32_t seed, layer, kv_head;
  std::uint32_t n_tokens;  // of the text, when the lots are drawn
};

/// Scores in [0, 1) that depend on the lot and the row's place alone. Method: SplitMix64 (Steele et
/// al. 2014) over both.
void draw_lots(const Lot& lot, std::span<float> scores) noexcept;

}  // namespace larder
