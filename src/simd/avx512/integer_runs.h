// How the kernels over integers walk along a run: stretch by stretch, with the scales of its rows.
// Everything is inlined; nothing here is compiled on its own.
#pragma once

#include <array>
#include <utility>

#include "simd/avx512/ggml_planes.h"
#include "simd/integer_rows.h"
#include "simd/run_distance.h"

namespace larder::simd::avx512 {
namespace {

constexpr std::size_t kLanes = 16;  // tokens of a K tile
constexpr __mmask16 kAll = 0xffff;

/// Rows [first, first + n_rows) of a part, 32 of them or 16.
struct Stretch {
  const std::byte* part;
  std::ptrdiff_t ahead;  // to the part that is fetched meanwhile
  std::size_t first, n_rows;
  std::size_t token;  // its first row in the run
};

/// Parts of ggml blocks. Their scales are copied together before the rows are worked on.
template <class PlanesOfBlock>
struct BlockSource {
  using Planes = PlanesOfBlock;
  static constexpr std::size_t kQueries = 4, kTiles = 1;
  static constexpr int bias(int plane) { return Planes::kBias[plane % 2]; }

  static std::size_t row_bytes(BlockShape shape) {
    return shape.head_dim / kGroupChannels * Planes::kBlockBytes;
  }
  static std::size_t part_bytes(BlockShape shape) { return shape.block_tokens * row_bytes(shape); }

  class Scales {
   public:
    void read(const Stretch& stretch, BlockShape shape) {
      const std::size_t n_groups = shape.head_dim / kGroupChannels;
      const std::byte* block = stretch.part + stretch.first * row_bytes(shape);
      for (std::size_t t = 0; t < stretch.n_rows; ++t) {
        for (std::size_t g = 0; g < n_groups; ++g, block += Planes::kBlockBytes) {
          __builtin_memcpy(&halves_[g * kStretchTokens + t], block, 2);
        }
      }
    }
    /// Those of rows t to t + 15 of the stretch.
    [[gnu::always_inline]] __m512 load(std::size_t group, std::size_t t) const {
      const auto* const at = halves_ + group * kStretchTokens + t;
      return _mm512_maskz_cvtph_ps(kAll, _mm256_load_si256(reinterpret_cast<const __m256i*>(at)));
    }

   private:
    alignas(64) std::uint16_t halves_[kMaxGroups * kStretchTokens];
  };

  /// f(Index<p>, planes p of kTiles tiles) for the K tile from row t of the stretch on.
  template <int kT, class F>
  [[gnu::always_inline]] static void for_each_plane(const Stretch& stretch, std::size_t t,
                                                    std::size_t group, BlockShape shape, F&& f) {
    static_assert(kT == 1);
    const std::byte* const tile = stretch.part + (stretch.first + t) * row_bytes(shape);
    fetch(tile + group * kLanes * Planes::kBlockBytes, kLanes * Planes::kBlockBytes, stretch.ahead);
    Planes::for_each_plane(
        tile + group * Planes::kBlockBytes,
        row_bytes(shape), [&](auto p, __m512i plane) __attribute__((always_inline)) {
          const __m512i planes[1] = {plane};
          f(p, planes);
        });
  }
  /// The integers of rows 2 i and 2 i + 1 of the stretch.
  [[gnu::always_inline]] static void pairs(const Stretch& stretch, std::size_t i, std::size_t group,
                                           BlockShape shape, __m512i (&out)[2]) {
    const std::size_t n = row_bytes(shape);
    const std::byte* const row = stretch.part + (stretch.first + 2 * i) * n;
    Planes::pairs(row + group * Planes::kBlockBytes, n, out);
    // Each group's turn fetches a share of what it walks along.
    const std::byte* const share = row + 2 * group * Planes::kBlockBytes;
    fetch(share, 2 * Planes::kBlockBytes, stretch.ahead);
  }
  static void in_order(__m512i (&vectors)[2]) { Planes::in_order(vectors); }

 private:
  [[gnu::always_inline]] static void fetch(const std::byte* from, std::size_t n,
                                           std::ptrdiff_t ahead) {
    for (std::size_t i = 0; i < n; i += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(from + i) + ahead, _MM_HINT_T0);
    }
  }
};

/// Integer parts: just unpacked, so not fetched.
struct IntegerSource {
  static constexpr std::size_t kQueries = 6, kTiles = 2;
  static constexpr int bias(int) { return 0; }
  static std::size_t part_bytes(BlockShape shape) { return integer_part_bytes(shape); }

  class Scales {
   public:
    void read(const Stretch& stretch, BlockShape shape) {
      scales_ = stretch.part + integer_bytes(shape) + 4 * stretch.first;
      n_rows_ = shape.block_tokens;
    }
    [[gnu::always_inline]] __m512 load(std::size_t group, std::size_t t) const {
      return _mm512_loadu_ps(scales_ + 4 * (group * n_rows_ + t));
    }

   private:
    const std::byte* scales_;
    std::size_t n_rows_;
  };

  template <int kT, class F>
  [[gnu::always_inline]] static void for_each_plane(const Stretch& stretch, std::size_t t,
                                                    std::size_t group, BlockShape shape, F&& f) {
    const std::size_t tile_bytes = kLanes * shape.head_dim * 2;
    const std::byte* const planes =
        stretch.part + (stretch.first + t) / kLanes * tile_bytes + group * 16 * 64;
    plane<kT>(std::make_integer_sequence<int, 16>{}, planes, tile_bytes, f);
  }
  [[gnu::always_inline]] static void pairs(const Stretch& stretch, std::size_t i, std::size_t group,
                                           BlockShape shape, __m512i (&out)[2]) {
    const std::byte* const row =
        stretch.part + ((stretch.first / 2 + i) * shape.head_dim + group * kGroupChannels) * 4;
    out[0] = _mm512_loadu_si512(row);
    out[1] = _mm512_loadu_si512(row + 64);
  }
  static void in_order(__m512i (&)[2]) {}

 private:
  template <int kT, int... p, class F>
  [[gnu::always_inline]] static void plane(std::integer_sequence<int, p...>, const std::byte* at,
                                           std::size_t tile_bytes, F& f) {
    const auto one = [&](auto i) __attribute__((always_inline)) {
      __m512i planes[kT];
      LARDER_UNROLL
      for (std::size_t t = 0; t < kT; ++t) {
        planes[t] = _mm512_loadu_si512(at + t * tile_bytes + i() * 64);
      }
      f(i, planes);
    };
    (one(Index<p>{}), ...);
  }
};

/// f(stretch, scales) along the first `n_blocks` of a run. Scales of the next stretch are read
/// while one is worked on: vectors of what was just stored in pieces would have to wait for it.
template <class Source, class F>
inline void for_each_stretch(const KvRun& run, std::size_t n_blocks, BlockShape shape, F&& f) {
  const std::size_t n = shape.block_tokens, part_bytes = Source::part_bytes(shape);
  const auto stretch = [&](std::size_t block, std::size_t first) {
    const std::size_t n_rows = n - first < kStretchTokens ? n - first : kStretchTokens;
    return Stretch{run.parts[block], distance_ahead(run, block, part_bytes), first, n_rows,
                   block * n + first};
  };
  typename Source::Scales scales[2];
  Stretch next = stretch(0, 0);
  scales[0].read(next, shape);
  for (std::size_t block = 0, i = 0; block < n_blocks; ++i) {
    const Stretch now = next;
    std::size_t first = now.first + now.n_rows;
    if (first == n) {
      ++block;
      first = 0;
    }
    if (block < n_blocks) {
      next = stretch(block, first);
      scales[(i + 1) % 2].read(next, shape);
    }
    f(now, scales[i % 2]);
  }
}

/// What numbers whose largest magnitude has these bits are multiplied with to become integers.
[[gnu::always_inline]] inline float factor_of(float largest) {
  return largest >= kLeastLargest ? kTopInteger / largest : 0.0F;
}
[[gnu::always_inline]] inline float unit_of(float largest) { return largest * (1 / kTopInteger); }

/// The bits of a number without its sign.
[[gnu::always_inline]] inline __m512i size_bits(__m512 x) {
  return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
}
[[gnu::always_inline]] inline float largest_of(__m512i size_bits) {
  const unsigned bits = _mm512_reduce_max_epu32(size_bits);
  float largest;
  __builtin_memcpy(&largest, &bits, sizeof(largest));
  return largest;
}
[[gnu::always_inline]] inline __m512i nearest(__m512 x) {
  return _mm512_maskz_cvtps_epi32(kAll, x);
}

}  // namespace
}  // namespace larder::simd::avx512
