// Budgets of single KV heads, from a file.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "larder/result.h"
#include "policy/policy.h"

namespace larder {

/// What a file says of the KV heads of a model: weights, 0 or more, of no unit.
struct HeadWeights {
  std::uint32_t n_layers = 0, n_heads = 0;
  std::vector<float> weights;  // [n_layers, n_heads]
};

/// A line for each layer with a number for each KV head, separated by blanks or tabs; empty lines
/// and those that begin with # are skipped. So are the patterns of DuoAttention. `origin` names the
/// text in errors: invalid_argument (no number, below 0, lines of different lengths, none at all,
/// more than 4096 layers or heads), which hold no byte that cannot be printed.
Result<HeadWeights> parse_head_weights(std::string_view text, const std::string& origin);

/// Shares of single heads in a budget.
struct HeadShares {
  static constexpr float kAll = -1;  // every row stays
  std::uint32_t n_heads = 0;
  std::vector<float> shares;  // [n_layers, n_heads] of the mean, or kAll; 0 where no rows go
  float of(std::uint32_t layer, std::uint32_t head) const {
    return shares[std::size_t{layer} * n_heads + head];
  }
};

/// Of the layers that drop rows. HeadFile::shares: weights over their mean. HeadFile::classes: the
/// `full_percent` of all heads with the highest weights keep everything, the others have the mean;
/// of equal weights those of lower layers and heads count as higher. Errors: invalid_argument
/// (weights that are all 0). REQUIRES: policy.head_file != none
Result<HeadShares> head_shares(const Policy& policy, const HeadWeights& weights,
                               std::span<const std::uint32_t> layers);

/// Rows of a head that stay when `n_keep` do on average; UINT32_MAX: all. The protected rows are
/// everybody's; the rest is dealt out.
std::uint32_t rows_of_head(const Policy& policy, std::uint32_t n_keep, float share) noexcept;

}  // namespace larder
