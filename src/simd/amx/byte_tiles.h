// Rows of bytes times queries or weights of 16 bits in tiles, see simd/byte_rows.h. A tile of A has
// the high bytes of some rows and, behind them or in a second tile, the low bytes; B tiles stand in
// memory as byte parts have them. Everything is inlined; nothing here is compiled on its own.
#pragma once

#include <bit>

#include "simd/amx/kv_tiles.h"
#include "simd/byte_rows.h"
#include "simd/integer_rows.h"

namespace larder::simd::amx {
namespace {

constexpr std::size_t kByteStep = 64;  // channels or tokens of a tile
// Rows of A begin so many bytes apart, see QueryTiles.
constexpr std::size_t kByteStride = kMaxHeadDim + kByteStep;

constexpr std::size_t whole_steps(std::size_t n) {
  return (n + kByteStep - 1) / kByteStep * kByteStep;
}

/// Channels of a tile: nothing behind a K part is read.
inline std::size_t step_channels(std::size_t head_dim) {
  for (std::size_t step = kByteStep; step > kLanes; step -= kLanes) {
    if (head_dim % step == 0) return step;
  }
  return kLanes;
}

/// How numbers become integers of 16 bits, and these numbers again.
struct Rounding {
  float unit, inverse;

  /// `largest`: bits without signs, of which the largest counts.
  explicit Rounding(__m512i largest) {
    const auto value = std::bit_cast<float>(_mm512_reduce_max_epu32(largest));
    const bool is_zero = value < kLeastLargest;
    unit = is_zero ? 0.0F : value * (1.0F / kTopBytes);
    inverse = is_zero ? 0.0F : kTopBytes / value;
  }
  /// x [n], n a multiple of 16, as bytes, filled up with zeros to whole steps.
  void split(const float* x, std::size_t n, std::int8_t* high, std::int8_t* low) const {
    for (std::size_t i = 0; i < n; i += kByteStep) split_step(x + i, n - i, high + i, low + i);
  }

 private:
  [[gnu::always_inline]] void split_step(const float* x, std::size_t n, std::int8_t* high,
                                         std::int8_t* low) const {
    __m512i all[4];
    for (std::size_t i = 0; i < 4; ++i) {
      const __mmask16 lanes = n > i * kLanes ? __mmask16{0xffff} : __mmask16{0};
      const __m512 some = _mm512_maskz_loadu_ps(lanes, x + i * kLanes);
      all[i] = _mm512_cvtps_epi32(_mm512_maskz_mul_ps(lanes, some, _mm512_set1_ps(inverse)));
    }
    const __m512i words[2] = {_mm512_packs_epi32(all[0], all[1]),
                              _mm512_packs_epi32(all[2], all[3])};
    const __m512i lows = _mm512_set1_epi16(0xff), half = _mm512_set1_epi16(128);
    const __m512i low_bytes =
        _mm512_packus_epi16(_mm512_and_si512(words[0], lows), _mm512_and_si512(words[1], lows));
    const __m512i high_bytes =
        _mm512_packs_epi16(_mm512_srai_epi16(_mm512_add_epi16(words[0], half), 8),
                           _mm512_srai_epi16(_mm512_add_epi16(words[1], half), 8));
    // Packing leaves four bytes of each of the four vectors side by side.
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_storeu_si512(low, _mm512_permutexvar_epi32(order, low_bytes));
    _mm512_storeu_si512(high, _mm512_permutexvar_epi32(order, high_bytes));
  }
};

[[gnu::always_inline]] inline __m512i without_sign(__m512 x) {
  return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
}

/// Sums of bytes' products as the floats next to 256 * high + low, which is exact for up to 1024
/// products: neither sum has more than 24 bits.
[[gnu::always_inline]] inline __m512 join(const std::int32_t* high, const std::int32_t* low) {
  return _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(high)), _mm512_set1_ps(256.0F),
                         _mm512_cvtepi32_ps(_mm512_load_si512(low)));
}
/// The same, faster, for up to 512 products: 256 * high + low has no more than 32 bits then.
[[gnu::always_inline]] inline __m512 join_few(const std::int32_t* high, const std::int32_t* low) {
  const __m512i up =  // by a byte; shifts compete with products and conversions
      _mm512_broadcast_i32x4(_mm_setr_epi8(-1, 0, 1, 2, -1, 4, 5, 6, -1, 8, 9, 10, -1, 12, 13, 14));
  const __m512i tops = _mm512_shuffle_epi8(_mm512_load_si512(high), up);
  return _mm512_cvtepi32_ps(_mm512_add_epi32(tops, _mm512_load_si512(low)));
}

/// Registers: C 0 to 3 or 5, two of A at most, B. kA: tiles of A, 1 (up to 8 rows) or 2 (up to 16).
template <int kA>
struct ByteShapes {
  static constexpr std::size_t kMaxRows = 8 * std::size_t{kA};
  static constexpr int kB = 7;
  static constexpr int a(int i) { return 6 - i; }

  /// `step`: of kByteStep channels or tokens.
  static TileShapes of(std::size_t n_rows, std::size_t step) {
    TileShapes shapes;
    const std::size_t rows_of_a = 2 * n_rows / kA;
    for (int t = 0; t < kB; ++t) shapes.set(t, rows_of_a, kTileRowBytes);
    for (int t = 0; t < kA; ++t) shapes.set(a(t), rows_of_a, step);
    shapes.set(kB, step / 4, kTileRowBytes);
    return shapes;
  }
};

/// At most 8 * kA queries, for as long as this lives in the tile registers' shapes.
template <int kA>
class ByteQueries {
  using Shapes = ByteShapes<kA>;

 public:
  static constexpr std::size_t kMaxRows = Shapes::kMaxRows;
  static constexpr int kMaxKeys = 4 / kA;  // K tiles at once
  static constexpr std::size_t kSumsOfTile = 2 * kMaxRows * kLanes;

  ByteQueries(const float* q, std::size_t n_q, std::size_t head_dim)
      : n_q_(n_q),
        head_dim_(head_dim),
        step_(step_channels(head_dim)),
        tiles_(Shapes::of(n_q, step_)) {
    for (std::size_t i = 0; i < n_q; ++i) round(q + i * head_dim, i);
  }

  /// Sums of kT K tiles, one behind the other.
  template <int kT>
  void multiply(const std::byte* keys, std::int32_t* sums) const {
    for_each_tile<kT * kA>([&](auto c) { zero_tile<c()>(); });
    for (std::size_t c = 0; c < head_dim_; c += step_) {
      for_each_tile<kA>([&](auto a) {
        load_tile<Shapes::a(a())>(a_ + a() * n_q_ * kByteStride + c, kByteStride);
      });
      for_each_tile<kT>([&](auto t) {
        load_tile<Shapes::kB>(keys + (t() * head_dim_ + c) * kLanes, kTileRowBytes);
        for_each_tile<kA>(
            [&](auto a) { multiply_bytes<t() * kA + a(), Shapes::a(a()), Shapes::kB>(); });
      });
    }
    for_each_tile<kT * kA>([&](auto c) {
      store_tile<c()>(sums + c() / kA * kSumsOfTile + c() % kA * n_q_ * kLanes, kTileRowBytes);
    });
  }

  /// Scores of kT K tiles from their sums and the scales of their rows; those of query i go to
  /// out + i * stride.
  template <int kT>
  void scale(const std::int32_t* sums, const float* scales, float* out, std::size_t stride) const {
    if (head_dim_ <= kByteRun) {
      scale<kT>(sums, scales, out, stride, join_few);
    } else {
      scale<kT>(sums, scales, out, stride, join);
    }
  }

 private:
  void round(const float* q, std::size_t row) {
    __m512i largest = _mm512_setzero_si512();
    for (std::size_t c = 0; c < head_dim_; c += kLanes) {
      largest = _mm512_max_epu32(largest, without_sign(_mm512_loadu_ps(q + c)));
    }
    const Rounding rounding(largest);
    std::int8_t *high = a_ + row * kByteStride, *low = high + n_q_ * kByteStride;
    rounding.split(q, head_dim_, high, low);
    units_[row] = rounding.unit;
  }

  template <int kT, class Join>
  [[gnu::always_inline]] void scale(const std::int32_t* sums, const float* scales, float* out,
                                    std::size_t stride, const Join& join_sums) const {
    __m512 of_rows[kT];
    for (int t = 0; t < kT; ++t) of_rows[t] = _mm512_loadu_ps(scales + std::size_t(t) * kLanes);
    for (std::size_t i = 0; i < n_q_; ++i, out += stride) {
      const __m512 unit = _mm512_set1_ps(units_[i]);
      for (std::size_t t = 0; t < std::size_t{kT}; ++t) {
        const std::int32_t* high = sums + t * kSumsOfTile + i * kLanes;
        const __m512 sum = join_sums(high, high + n_q_ * kLanes);
        _mm512_storeu_ps(out + t * kLanes, _mm512_mul_ps(_mm512_mul_ps(sum, unit), of_rows[t]));
      }
    }
  }

  const std::size_t n_q_, head_dim_, step_;
  const TileScope tiles_;
  float units_[kMaxRows];
  alignas(64) std::int8_t a_[2 * kMaxRows * kByteStride];
};

/// At most 8 * kA rows of weights of at most kByteRun tokens, and their sums of a number of tiles
/// of 16 channels.
template <int kA>
class ByteWeights {
  using Shapes = ByteShapes<kA>;

 public:
  static constexpr std::size_t kMaxRows = Shapes::kMaxRows;
  static constexpr int kMaxSums = kA == 1 ? 6 : 2;  // tiles of channels at once
  static constexpr std::size_t kSumsOfTile = 2 * kMaxRows * kLanes;

  explicit ByteWeights(std::size_t n_q) : n_q_(n_q), tiles_(Shapes::of(n_q, kByteStep)) {}

  /// Weights of n_tokens tokens, times the scales of their rows. Those of each `piece` tokens begin
  /// at a whole step.
  void round(ScoreTile weights, const float* scales, std::size_t n_tokens, std::size_t piece) {
    alignas(64) float scaled[kByteRun];
    for (std::size_t i = 0; i < n_q_; ++i) {
      const float* row = weights.data + i * weights.stride;
      __m512i largest = _mm512_setzero_si512();
      for (std::size_t t = 0; t < n_tokens; t += kLanes) {
        const __m512 x = _mm512_mul_ps(_mm512_loadu_ps(row + t), _mm512_loadu_ps(scales + t));
        largest = _mm512_max_epu32(largest, without_sign(x));
        _mm512_store_ps(scaled + t, x);
      }
      const Rounding rounding(largest);
      units_[i] = rounding.unit;
      std::int8_t *high = a_ + i * kByteStride, *low = high + n_q_ * kByteStride;
      for (std::size_t first = 0; first < n_tokens; first += piece) {
        const std::size_t n = n_tokens - first < piece ? n_tokens - first : piece;
        rounding.split(scaled + first, n, high, low);
        high += whole_steps(n);
        low += whole_steps(n);
      }
    }
  }

  template <int kC>
  void begin() const {
    for_each_tile<kC * kA>([&](auto c) { zero_tile<c()>(); });
  }
  /// n tokens whose weights begin at a whole step, `first`; rows of four tokens `row_bytes` apart.
  template <int kC>
  void add(std::size_t first, std::size_t n, const std::byte* rows, std::size_t row_bytes) const {
    for (std::size_t t = 0; t < n; t += kByteStep) {
      for_each_tile<kA>([&](auto a) {
        load_tile<Shapes::a(a())>(a_ + a() * n_q_ * kByteStride + first + t, kByteStride);
      });
      for_each_tile<kC>([&](auto c) {
        load_tile<Shapes::kB>(rows + t / 4 * row_bytes + c() * kTileRowBytes, row_bytes);
        for_each_tile<kA>(
            [&](auto a) { multiply_bytes<c() * kA + a(), Shapes::a(a()), Shapes::kB>(); });
      });
    }
  }
  /// Sums of kC tiles, kSumsOfTile apart.
  template <int kC>
  void load(const std::int32_t* sums) const {
    for_each_tile<kC * kA>([&](auto c) {
      load_tile<c()>(sums + c() / kA * kSumsOfTile + c() % kA * n_q_ * kLanes, kTileRowBytes);
    });
  }
  template <int kC>
  void store(std::int32_t* sums) const {
    for_each_tile<kC * kA>([&](auto c) {
      store_tile<c()>(sums + c() / kA * kSumsOfTile + c() % kA * n_q_ * kLanes, kTileRowBytes);
    });
  }
  /// Adds the sums of `n` tiles.
  void add_sums(const std::int32_t* sums, std::size_t n, float* out, std::size_t head_dim) const {
    for (std::size_t i = 0; i < n_q_; ++i, out += head_dim) {
      const __m512 unit = _mm512_set1_ps(units_[i]);
      for (std::size_t c = 0; c < n; ++c) {
        const std::int32_t* high = sums + c * kSumsOfTile + i * kLanes;
        const __m512 before = _mm512_loadu_ps(out + c * kLanes);
        _mm512_storeu_ps(out + c * kLanes,
                         _mm512_fmadd_ps(join(high, high + n_q_ * kLanes), unit, before));
      }
    }
  }

 private:
  const std::size_t n_q_;
  const TileScope tiles_;
  float units_[kMaxRows];
  alignas(64) std::int8_t a_[2 * kMaxRows * kByteStride];
};

}  // namespace
}  // namespace larder::simd::amx
