// f16 rows in tiles of bf16: each number is a sum of two bf16 numbers, its parts, and a product of
// two numbers is the sum of the products of their parts.
//
//   a query or weight x   x0 = bf16(x), x1 = bf16(x - x0), rounded to nearest, ties to even
//   an element y of K, V  y0 = the upper 16 bits of its float, y1 = those of y - y0: exactly y
//   sum += a product      x1 y1, x0 y1, x1 y0, x0 y0, in this order for each 32 channels, or for
//                         each 32 (16) tokens of a block; each as TDPBF16PS adds it
//                         (simd/amx/tiles.h)
//
// What is left out of a product is at most 2^-17 |x y|, for x0 + x1 has 17 bits of x. Parts and
// sums below 2^-126 count as zero, which leaves out up to 2^-122 (|x| + |y| + 1) more. Any number
// of queries takes this way, and no two share a sum.
//
// A row with NaN or infinity gives NaN: as its score, and in a weighted sum in its channel. Queries
// and weights with NaN, infinity or more than 3.39e38 (what rounds to infinity) give NaN.
//
// Everything is inlined; nothing here is compiled on its own.
#pragma once

#include "simd/amx/kv_tiles.h"

namespace larder::simd::amx {
namespace {

constexpr int kParts = 2;
constexpr std::size_t kElementBytes = 2;

/// Parts of the queries or weights of a step: [kParts][kTileRows][kStep] bf16 numbers, tiles of A.
constexpr std::size_t kStepElements = kParts * kTileRows * kStep;

/// x [n], n at most kStep, as a row of such tiles, filled up with zeros.
inline void split_row(const float* x, std::size_t n, std::uint16_t* row) {
  __m512 low = _mm512_maskz_loadu_ps(first_lanes(n), x);
  const __mmask16 rest = n > kLanes ? first_lanes(n - kLanes) : __mmask16{0};
  __m512 high = _mm512_maskz_loadu_ps(rest, x + kLanes);
  const auto widen = [](__m256i halves) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  };
  for (int p = 0; p < kParts; ++p, row += kTileRows * kStep) {
    const auto both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
    _mm512_storeu_si512(row, both);
    low = _mm512_sub_ps(low, widen(_mm512_castsi512_si256(both)));
    high = _mm512_sub_ps(high, widen(_mm512_extracti64x4_epi64(both, 1)));
  }
}

/// The numbers of a B tile where they stand: 16 tokens of pairs of channels, or 16 channels of
/// pairs of tokens.
struct PairSource {
  const std::byte* first;  // of the first pair
  std::size_t second;      // bytes from the first of a pair to its second
  std::size_t pair_bytes;  // from one pair to the next
  std::size_t n;           // numbers; of an odd last one the pair's second is not looked at
  std::ptrdiff_t ahead;    // to what is fetched meanwhile, as much as the first of a pair takes
};

/// kTiles tiles of C and what is multiplied into them, for as long as this lives in the tile
/// registers' shapes. The numbers of some steps are split together, for all groups of queries: tile
/// loads among what is stored would wait for it.
class SplitTiles {
 public:
  static constexpr int kTiles = 4;
  static constexpr std::size_t kStepBytes = kTiles * kParts * kBTileBytes;

  /// `n_q`: of a group. `step`: channels or tokens of a step. `n_columns`: of a C tile. `parts`:
  /// of as many steps as are split together, kStepBytes each.
  SplitTiles(std::size_t n_q, std::size_t step, std::size_t n_columns, std::byte* parts)
      : n_rows_(step / 2),
        lanes_(first_lanes(n_columns)),
        tiles_(shapes(n_q, step, n_columns)),
        parts_(parts) {}

  void zero() const {
    for_each_tile<kTiles>([](auto t) { zero_tile<t()>(); });
  }
  /// Rows begin `stride` elements apart.
  void load(std::size_t n, const float* from, std::size_t stride) const {
    for_each_tile<kTiles>([&](auto t) {
      if (t() < n) load_tile<t()>(from + t() * kLanes, stride * sizeof(float));
    });
  }
  void store(std::size_t n, float* to, std::size_t stride) const {
    for_each_tile<kTiles>([&](auto t) {
      if (t() < n) store_tile<t()>(to + t() * kLanes, stride * sizeof(float));
    });
  }

  /// A tile of a step.
  [[gnu::always_inline]] void split(std::size_t step, std::size_t tile,
                                    const PairSource& source) const {
    split(source, parts_ + step * kStepBytes + tile * kParts * kBTileBytes);
  }
  /// The `n` tiles of a step with A, `a` [kStepElements].
  void multiply(std::size_t step, std::size_t n, const std::uint16_t* a) const {
    load_a(a);
    const std::byte* parts = parts_ + step * kStepBytes;
    for_each_tile<kTiles>([&](auto t) {
      if (t() < n) multiply<t()>(parts + t() * kParts * kBTileBytes);
    });
  }

  /// Both at once: a step that was split before, and the `n_next` tiles of the next one,
  /// source(t) each. For few queries, where memory must be kept busy all the time.
  template <class Source>
  [[gnu::always_inline]] void multiply_and_split(std::size_t step, std::size_t n,
                                                 const std::uint16_t* a, std::size_t next,
                                                 std::size_t n_next, Source&& source) const {
    load_a(a);
    const std::byte* parts = parts_ + step * kStepBytes;
    for_each_tile<kTiles>([&](auto t) {
      if (t() < n_next) split(next, t(), source(std::size_t{t()}));
      if (t() < n) multiply<t()>(parts + t() * kParts * kBTileBytes);
    });
  }

 private:
  static constexpr int kA = kTiles, kB = kA + kParts;

  static TileShapes shapes(std::size_t n_q, std::size_t step, std::size_t n_columns) {
    TileShapes shapes;
    for (int t = 0; t < kTiles; ++t) shapes.set(t, n_q, n_columns * sizeof(float));
    for (int p = 0; p < kParts; ++p) {
      shapes.set(kA + p, n_q, step * sizeof(std::uint16_t));
      shapes.set(kB + p, step / 2, n_columns * sizeof(float));
    }
    return shapes;
  }

  [[gnu::always_inline]] static void load_a(const std::uint16_t* a) {
    for_each_tile<kParts>([&](auto p) {
      load_tile<kA + p()>(a + p() * kTileRows * kStep, kStep * sizeof(std::uint16_t));
    });
  }
  template <int kTile>
  [[gnu::always_inline]] static void multiply(const std::byte* parts) {
    load_tile<kB + 1>(parts + kBTileBytes, kTileRowBytes);
    multiply_bf16<kTile, kA + 1, kB + 1>();
    multiply_bf16<kTile, kA, kB + 1>();
    load_tile<kB>(parts, kTileRowBytes);
    multiply_bf16<kTile, kA + 1, kB>();
    multiply_bf16<kTile, kA, kB>();
  }

  [[gnu::always_inline]] void split(const PairSource& source, std::byte* to) const {
    if (lanes_ == 0xffff) return split_lanes<true>(source, to);
    split_lanes<false>(source, to);
  }
  template <bool kWhole>
  [[gnu::always_inline]] __m512 load_halves(const std::byte* from) const {
    const auto* at = reinterpret_cast<const __m256i*>(from);
    if constexpr (kWhole) return _mm512_cvtph_ps(_mm256_loadu_si256(at));
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes_, at));
  }
  template <bool kWhole>
  [[gnu::always_inline]] void split_lanes(const PairSource& source, std::byte* to) const {
    const std::byte* first = source.first;
    std::size_t row = 0;
    for (; row < source.n / 2; ++row, first += source.pair_bytes) {
      split_pair(load_halves<kWhole>(first), load_halves<kWhole>(first + source.second),
                 to + row * kTileRowBytes);
      fetch_second_level(first, source.ahead, 1);
    }
    if (source.n % 2 != 0) {
      split_pair(load_halves<kWhole>(first), _mm512_setzero_ps(), to + row * kTileRowBytes);
      ++row;
    }
    for (; row < n_rows_; ++row) {
      split_pair(_mm512_setzero_ps(), _mm512_setzero_ps(), to + row * kTileRowBytes);
    }
  }
  /// A row of the tiles of B.
  [[gnu::always_inline]] static void split_pair(__m512 first, __m512 second, std::byte* row) {
    const __m512i upper = _mm512_set1_epi32(-65536);
    const auto rest = [&](__m512 x) {
      return _mm512_sub_ps(x, _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), upper)));
    };
    const auto store = [](__m512 even, __m512 odd, std::byte* to) {
      const __m512i low = _mm512_srli_epi32(_mm512_castps_si512(even), 16);
      _mm512_store_si512(to, _mm512_mask_blend_epi16(0xaaaaaaaaU, low, _mm512_castps_si512(odd)));
    };
    store(first, second, row);
    store(rest(first), rest(second), row + kBTileBytes);
  }

  const std::size_t n_rows_;  // of B
  const __mmask16 lanes_;
  const TileScope tiles_;
  std::byte* const parts_;
};

}  // namespace
}  // namespace larder::simd::amx
