// Which storage format each layer gets under a budget.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "larder/result.h"

namespace larder {

/// A format for the keys, or the values, of one layer, and what it does while all others stay.
struct FormatChoice {
  std::string format;
  double kl = 0;                  // mean, nats
  std::uint64_t saved_bytes = 0;  // of a token, all layers together
};

struct LayerSide {
  std::uint32_t layer = 0;
  bool is_key = false;
  std::vector<FormatChoice> choices;  // the first one changes nothing: KL 0, no bytes
};

/// Index of each side's choice, such that at least `n_bytes` are saved and the sum of the KLs is
/// least: exactly, by dynamic programming over bytes, in steps of n_bytes / 65536 where that is
/// more than one. KLs of single changes are taken to add up. Errors: invalid_argument (not even the
/// smallest formats save that much).
Result<std::vector<std::size_t>> choose_formats(const std::vector<LayerSide>& sides,
                                                std::uint64_t n_bytes);

/// The choices as the value of --kv-layers: "0:bf16/int8,1-3:int8". REQUIRES: the sides are K, V of
/// one layer after the other, by layer.
std::string kv_layers_text(const std::vector<LayerSide>& sides,
                           const std::vector<std::size_t>& chosen);

}  // namespace larder
