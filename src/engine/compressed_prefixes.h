// Beginnings of texts whose rows a policy has dropped, shared by all who begin alike under it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/block_id.h"
#include "engine/kept_caches.h"
#include "kv/block_pool.h"

namespace larder {

/// Whether a cache of `n_rows` rows that was cut down at `theirs` is what one that is cut down at
/// `mine` is by then, under the same policy: rows went at the same places, to the same number, and
/// the end of neither prompt has counted.
bool same_until(const EvictionPoints& theirs, const EvictionPoints& mine,
                std::uint32_t n_rows) noexcept;

/// Beside the prefix tree, which holds rows of full caches only. Holds references to blocks like
/// any sequence; what is stored is never written, whoever goes on from it copies what he changes.
/// The least recently used go first: beyond kMost, when their statistics take more than
/// kMaxStatisticsBytes, and when blocks run short. Not thread-safe.
class CompressedPrefixes {
 public:
  static constexpr std::size_t kMost = 64;
  static constexpr std::size_t kMaxStatisticsBytes = std::size_t{64} << 20;

  /// `left.cache` is where rows went last, or, without statistics, anywhere behind.
  void leave(KeptCache left, std::string salt);
  /// The longest one that a request may go on from, cut where its text differs; its own places go
  /// on. Empty: none.
  std::optional<KeptRows> find(const RowsWanted& wanted, std::string_view salt);
  /// Those of a salt that begin with the tokens; returns how many.
  std::size_t drop(std::span<const TokenId> tokens, std::string_view salt);
  bool release_oldest();  // false: there is none

  std::uint64_t version() const noexcept { return version_; }  // grows with every new one
  std::size_t size() const noexcept { return left_.size(); }
  /// Adds the blocks that nobody else refers to, by class: [n_classes]
  void count_only(const BlockPool& pool, std::span<std::size_t> n_only) const;

 private:
  struct Left {
    std::string salt;
    KeptCache of;
  };
  static std::uint32_t n_rows_for(const Left& left, const RowsWanted& wanted);
  void release_front();
  std::list<Left> left_;  // least recently used first
  std::size_t statistics_bytes_ = 0;
  std::uint64_t version_ = 0;
};

}  // namespace larder
