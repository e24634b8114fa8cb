// One large run of memory handed out piece by piece.
#pragma once

#include <cstddef>

#include "larder/result.h"

namespace larder {

/// Reserves address space and asks for huge pages; memory is used when a piece is first written.
/// Pieces are aligned to 64 bytes and live as long as the arena. Move-only; not thread-safe.
class HugeArena {
 public:
  HugeArena() = default;  // without room
  /// Errors: unavailable (the system refuses so much address space).
  static Result<HugeArena> create(std::size_t n_bytes);
  ~HugeArena();
  HugeArena(HugeArena&& other) noexcept;
  HugeArena& operator=(HugeArena&& other) noexcept;

  /// Zeroed. REQUIRES: there is room, each piece rounded up to 64 bytes.
  std::byte* take(std::size_t n_bytes);
  static constexpr std::size_t rounded(std::size_t n_bytes) { return (n_bytes + 63) / 64 * 64; }

 private:
  std::byte* mapping_ = nullptr;  // as the system gave it
  std::size_t mapped_ = 0;
  std::byte* next_ = nullptr;
  std::size_t n_left_ = 0;
};

}  // namespace larder
