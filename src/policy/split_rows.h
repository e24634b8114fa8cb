// How the rows that stay of a layer are dealt out to its KV heads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "policy/select_rows.h"

namespace larder {

struct HeadBudget {
  std::uint32_t n_keep;         // rows of a head on average
  std::uint32_t floor_percent;  // of that is every head's own
};

/// counts[h]: rows of head h that stay, protected ones included. As many of the others go to a head
/// as it has among the highest scores of all heads, less the share that is dealt out evenly;
/// rounded down, and never more than there are. scores[h] [rows of head h], no NaN; counts
/// [n_heads]. Method: Ada-KV, Feng et al. 2024 (arXiv:2407.11550).
void split_rows(std::span<const std::span<const float>> scores, ProtectedRows protect,
                const HeadBudget& budget, std::span<std::uint32_t> counts);

}  // namespace larder
