// The name of a physical KV block, shared by the parts that decide and the parts that compute.
#pragma once

#include <cstddef>
#include <cstdint>

namespace larder {

/// Where a block begins in the pool, in units of `kBlockQuantum` bytes: cheap, printable,
/// impossible to mix with a count, and an address needs no look-up: `pool + value * kBlockQuantum`.
enum class BlockId : std::uint32_t {};

inline constexpr BlockId kNoBlock{UINT32_MAX};     // stands where there is none
inline constexpr std::size_t kBlockQuantum = 64;  // one cache line; 2^32 of them reach 256 GiB

constexpr std::uint32_t to_index(BlockId id) noexcept { return static_cast<std::uint32_t>(id); }

constexpr std::size_t to_offset(BlockId id) noexcept {
  return static_cast<std::size_t>(to_index(id)) * kBlockQuantum;
}

/// Token ids as the model's embedding table numbers them.
using TokenId = std::int32_t;

}  // namespace larder
