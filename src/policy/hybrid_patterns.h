// Which pattern of rows is enough for a KV head.
#pragma once

#include <cstdint>
#include <span>

#include "policy/select_rows.h"

namespace larder {

enum class TokenKind : std::uint8_t {
  plain,
  punctuation,  // nothing but signs such as , . ; and blanks around them
  special,      // not text: where a text or a turn begins or ends
};

/// The patterns, each with those before it.
enum class HybridPattern : std::uint8_t { special, punctuation, frequent, local, all };

/// What a KV head's rows got of all queries of a text, one query a row; both [n_rows].
struct PatternSums {
  std::span<const float> all;
  std::span<const float> far;  // of those that stand `n_local` rows or more behind the row
};

struct PatternRule {
  ProtectedRows protect;          // of every pattern
  std::uint32_t n_frequent;       // rows with the largest sums; of equal ones the newer
  std::uint32_t n_local;          // newest rows, as each query sees them
  std::uint32_t recover_percent;  // of all that queries gave, which must fall on the pattern
};

/// The first pattern that recovers so much. stays[i], overwritten, is 1 where row i belongs to it,
/// else 0: [n_rows]. Of the pattern `local` these are the newest rows of the text, while what it
/// recovers is told from the rows that were the newest for each query. Method: FastGen, Ge et al.
/// 2024 (arXiv:2310.01801). REQUIRES: as many kinds as sums and stays
HybridPattern fit_pattern(const PatternSums& sums, std::span<const TokenKind> kinds,
                          const PatternRule& rule, std::span<float> stays);

}  // namespace larder
