// What the kernels over runs of KV blocks have in common. K tiles and V rows of bf16 stand in
// memory as TDPBF16PS reads its B tiles; up to 16 queries, or their weights, are the rows of an A
// tile. A row of a product depends on its own row of A alone, so any number of queries gives the
// same bits, and decoding takes this way too. Everything is inlined; nothing here is compiled on
// its own.
#pragma once

#include <immintrin.h>

#include <cstring>
#include <utility>

#include "simd/amx/tiles.h"
#include "simd/simd.h"

namespace larder::simd::amx {
namespace {

constexpr std::size_t kLanes = 16;  // tokens of a K tile; channels of a C tile
constexpr std::size_t kStep = 32;   // elements of a row of A: channels, or tokens
constexpr std::size_t kBTileBytes = kTileRows * kTileRowBytes;
constexpr std::size_t kMaxPartBytes = kMaxBlockTokens * kMaxHeadDim * 2;  // of bf16

inline __mmask16 first_lanes(std::size_t n) {
  return static_cast<__mmask16>(n >= kLanes ? 0xffffU : (1U << n) - 1U);
}

/// x [n] as bf16, filled up with zeros to a whole number of steps.
inline void pack(const float* x, std::size_t n, std::uint16_t* out) {
  for (std::size_t i = 0; i < n; i += kStep) {
    const std::size_t left = n - i;
    const __m512 low = _mm512_maskz_loadu_ps(first_lanes(left), x + i);
    const __mmask16 rest = left > kLanes ? first_lanes(left - kLanes) : __mmask16{0};
    const __m512 high = _mm512_maskz_loadu_ps(rest, x + i + kLanes);
    _mm512_storeu_si512(out + i, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
  }
}

/// Asks for the `n` lines at `line` + `ahead`.
[[gnu::always_inline]] inline void fetch(const std::byte* line, std::ptrdiff_t ahead,
                                         std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    _mm_prefetch(reinterpret_cast<const char*>(line + i * 64) + ahead, _MM_HINT_T0);
  }
}

/// The same into the second-level cache only: the few buffers between the first level and memory,
/// which bound what is under way, are free sooner. For loops that do more than read.
[[gnu::always_inline]] inline void fetch_second_level(const std::byte* line, std::ptrdiff_t ahead,
                                                      std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    _mm_prefetch(reinterpret_cast<const char*>(line + i * 64) + ahead, _MM_HINT_T1);
  }
}

/// f(integral_constant 0), ..., f(integral_constant kN - 1).
template <int kN, class F, int... kI>
[[gnu::always_inline]] inline void for_each_tile(F&& f, std::integer_sequence<int, kI...>) {
  (f(std::integral_constant<int, kI>{}), ...);
}
template <int kN, class F>
[[gnu::always_inline]] inline void for_each_tile(F&& f) {
  for_each_tile<kN>(f, std::make_integer_sequence<int, kN>{});
}

/// Where a K tile stands, and how far from there what shall be fetched meanwhile. Nothing where
/// that is zero.
struct KeyTile {
  const std::byte* data;
  std::ptrdiff_t ahead;
};

/// At most kTileRows queries, for as long as this lives in the tile registers' shapes.
class QueryTiles {
 public:
  static constexpr int kMaxKeys = 4;  // K tiles at once, whose scores are C tiles 0 to 3

  QueryTiles(const float* q, std::size_t n_q, std::size_t head_dim)
      : n_pairs_(head_dim / 2), tiles_(shapes(n_q, head_dim)) {
    for (std::size_t i = 0; i < n_q; ++i) pack(q + i * head_dim, head_dim, q_ + i * kStride);
  }

  /// `n` of kMaxKeys K tiles; scores of query i go to out + i * stride.
  void score(const KeyTile* keys, int n, float* out, std::size_t stride) const {
    if (n == 4) return score<4>(keys, out, stride);
    if (n == 3) return score<3>(keys, out, stride);
    if (n == 2) return score<2>(keys, out, stride);
    score<1>(keys, out, stride);
  }

 private:
  static constexpr int kQuery = 4, kKeys = 5, kLastQuery = 6, kLastKeys = 7;
  // Rows of A begin so many elements apart: whole cache lines, but no power of two, so that rows
  // do not compete for cache sets.
  static constexpr std::size_t kStride = kMaxHeadDim + kStep;

  static TileShapes shapes(std::size_t n_q, std::size_t head_dim) {
    const std::size_t rest = head_dim / 2 % kTileRows;
    TileShapes shapes;
    for (int t = 0; t < kMaxKeys; ++t) shapes.set(t, n_q, kTileRowBytes);
    shapes.set(kQuery, n_q, kTileRowBytes);
    shapes.set(kKeys, kTileRows, kTileRowBytes);
    if (rest > 0) {
      shapes.set(kLastQuery, n_q, rest * 4);
      shapes.set(kLastKeys, rest, kTileRowBytes);
    }
    return shapes;
  }

  template <int kT>
  void score(const KeyTile* keys, float* out, std::size_t stride) const {
    for_each_tile<kT>([&](auto t) { zero_tile<t()>(); });
    std::size_t pair = 0;
    for (; pair + kTileRows <= n_pairs_; pair += kTileRows) {
      load_tile<kQuery>(q_ + pair * 2, kStride * 2);
      for_each_tile<kT>([&](auto t) {
        const std::byte* rows = keys[t()].data + pair * kTileRowBytes;
        load_tile<kKeys>(rows, kTileRowBytes);
        if (keys[t()].ahead != 0) fetch(rows, keys[t()].ahead, kTileRows);
        multiply_bf16<t(), kQuery, kKeys>();
      });
    }
    if (pair < n_pairs_) {
      load_tile<kLastQuery>(q_ + pair * 2, kStride * 2);
      for_each_tile<kT>([&](auto t) {
        const std::byte* rows = keys[t()].data + pair * kTileRowBytes;
        load_tile<kLastKeys>(rows, kTileRowBytes);
        if (keys[t()].ahead != 0) fetch(rows, keys[t()].ahead, n_pairs_ - pair);
        multiply_bf16<t(), kLastQuery, kLastKeys>();
      });
    }
    for_each_tile<kT>([&](auto t) { store_tile<t()>(out + t() * kLanes, stride * sizeof(float)); });
  }

  const std::size_t n_pairs_;
  const TileScope tiles_;
  alignas(64) std::uint16_t q_[kTileRows * kStride];
};

/// Sums of kMaxSums tiles of 16 channels at most, or of one of fewer channels, of at most kTileRows
/// queries. They stay in the tile registers between `begin` and `end`.
class ChannelTiles {
 public:
  static constexpr int kMaxSums = 6;
  // Rows of packed weights begin so many elements apart, see QueryTiles.
  static constexpr std::size_t kMaxTokens = 512;
  static constexpr std::size_t kStride = kMaxTokens + kStep;

  /// `step`: tokens that are added at once, 32 or 16. `n_channels`: of a tile.
  ChannelTiles(std::size_t n_q, std::size_t step, std::size_t n_channels)
      : step_(step), n_channels_(n_channels), tiles_(shapes(n_q, step, n_channels)) {}

  std::size_t step() const { return step_; }

  template <int kC>
  void begin(const float* out, std::size_t head_dim) const {
    for_each_tile<kC>([&](auto c) { load_tile<c()>(out + c() * kLanes, head_dim * 4); });
  }
  /// A step: weights of its tokens, and their rows at `rows`, pairs `row_bytes` apart.
  template <int kC>
  void add(const std::uint16_t* weights, const std::byte* rows, std::size_t row_bytes) const {
    load_tile<kWeights>(weights, kStride * 2);
    for_each_tile<kC>([&](auto c) {
      load_tile<kRows>(rows + c() * kTileRowBytes, row_bytes);
      multiply_bf16<c(), kWeights, kRows>();
    });
  }
  /// The same, with weights of their own for each two tiles: `apart` elements behind those of the
  /// two before, rows of all of them `stride` elements apart.
  template <int kC>
  void add_by_two(const std::uint16_t* weights, std::size_t stride, std::size_t apart,
                  const std::byte* rows, std::size_t row_bytes) const {
    for_each_tile<kC>([&](auto c) {
      if constexpr (c() % 2 == 0) load_tile<kWeights>(weights + c() / 2 * apart, stride * 2);
      load_tile<kRows>(rows + c() * kTileRowBytes, row_bytes);
      multiply_bf16<c(), kWeights, kRows>();
    });
  }
  /// The first `n` tokens of a step. Not even times zero may unwritten rows come into a sum.
  template <int kC>
  void add_some(const std::uint16_t* weights, const std::byte* rows, std::size_t row_bytes,
                std::size_t n) const {
    load_tile<kWeights>(weights, kStride * 2);
    for_each_tile<kC>([&](auto c) {
      alignas(64) std::byte some[kBTileBytes];
      copy_rows(rows + c() * kTileRowBytes, row_bytes, n, some);
      load_tile<kRows>(some, kTileRowBytes);
      multiply_bf16<c(), kWeights, kRows>();
    });
  }
  template <int kC>
  void end(float* out, std::size_t head_dim) const {
    for_each_tile<kC>([&](auto c) { store_tile<c()>(out + c() * kLanes, head_dim * 4); });
  }

 private:
  static constexpr int kWeights = 6, kRows = 7;

  static TileShapes shapes(std::size_t n_q, std::size_t step, std::size_t n_channels) {
    TileShapes shapes;
    for (int c = 0; c < kMaxSums; ++c) shapes.set(c, n_q, n_channels * 4);
    shapes.set(kWeights, n_q, step * 2);
    shapes.set(kRows, step / 2, n_channels * 4);
    return shapes;
  }
  // n tokens, then zeros.
  void copy_rows(const std::byte* from, std::size_t row_bytes, std::size_t n, std::byte* to) const {
    std::memset(to, 0, kBTileBytes);
    const __mmask16 lanes = first_lanes(n_channels_);
    for (std::size_t pair = 0; pair < (n + 1) / 2; ++pair) {
      __m512i rows = _mm512_maskz_loadu_epi32(lanes, from + pair * row_bytes);
      if (2 * pair + 1 == n) rows = _mm512_and_si512(rows, _mm512_set1_epi32(0xffff));
      _mm512_storeu_si512(to + pair * kTileRowBytes, rows);
    }
  }

  const std::size_t step_, n_channels_;
  const TileScope tiles_;
};

/// Passes over `n` things, kMax of them at once: `pass(integral_constant number, the first one)`,
/// as few and as even as that allows.
template <int kMax, class F>
inline void for_each_pass(std::size_t n, F&& pass) {
  const std::size_t n_passes = (n + kMax - 1) / kMax;
  for (std::size_t i = 0, first = 0; i < n_passes; ++i) {
    const std::size_t n_now = (n - first) / (n_passes - i);
    for_each_tile<kMax>([&](auto t) {
      constexpr int kNow = t() + 1;
      if (n_now == std::size_t{kNow}) pass(std::integral_constant<int, kNow>{}, first);
    });
    first += n_now;
  }
}

/// Tokens of a step over blocks of so many.
inline std::size_t step_tokens(std::size_t block_tokens) {
  return block_tokens % kStep == 0 ? kStep : kLanes;
}

}  // namespace
}  // namespace larder::simd::amx
