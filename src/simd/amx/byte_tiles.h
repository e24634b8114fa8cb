// Rows of bytes times queries or weights of 16 bits in tiles, see simd/byte_rows.h. A tile of A has
// the high bytes of some rows and, behind them or in a second tile, the low bytes; B tiles stand in
// memory as byte parts have them. Everything is inlined; nothing here is compiled on its own.
#pragma once

#include "simd/amx/kv_tiles.h"
#include "simd/avx512/byte_rounding.h"

namespace larder::simd::amx {
namespace {

using avx512::join;
using avx512::join_few;
using avx512::kByteStep;  // most channels or tokens of a tile
using avx512::Rounding;
// Rows of A begin so many bytes apart, see QueryTiles.
constexpr std::size_t kByteStride = kMaxHeadDim + kByteStep;

/// Channels, or tokens of a block, of a tile: nothing behind a part is read.
inline std::size_t step_of(std::size_t n) {
  for (std::size_t step = kByteStep; step > kLanes; step -= kLanes) {
    if (n % step == 0) return step;
  }
  return kLanes;
}

/// Asks for the lines of a B tile, unless `ahead` is zero.
[[gnu::always_inline]] inline void fetch_tile(const std::byte* rows, std::size_t row_bytes,
                                              std::size_t step, std::ptrdiff_t ahead) {
  if (ahead == 0) return;
  if (step == kByteStep) {
#pragma GCC unroll 16
    for (std::size_t r = 0; r < kByteStep / 4; ++r) {
      fetch_second_level(rows + r * row_bytes, ahead, 1);
    }
  } else {
#pragma GCC unroll 4
    for (std::size_t r = 0; r < step / 4; ++r) {
      fetch_second_level(rows + r * row_bytes, ahead, 1);
    }
  }
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

/// A K tile, the scales of its rows, f16, and how far from there what shall be fetched meanwhile;
/// with zero nothing is.
struct ByteKeys {
  const std::byte *rows, *scales;
  std::ptrdiff_t ahead;
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
      : n_q_(n_q), head_dim_(head_dim), step_(step_of(head_dim)), tiles_(Shapes::of(n_q, step_)) {
    for (std::size_t i = 0; i < n_q; ++i) {
      const Rounding rounding = avx512::rounding_of(q + i * head_dim, head_dim);
      std::int8_t *high = a_ + i * kByteStride, *low = high + n_q * kByteStride;
      rounding.split(q + i * head_dim, head_dim, high, low);
      units_[i] = rounding.unit;
    }
  }

  /// Sums of kT K tiles, one behind the other.
  template <int kT>
  void multiply(const ByteKeys* keys, std::int32_t* sums) const {
    for_each_tile<kT * kA>([&](auto c) { zero_tile<c()>(); });
    for (std::size_t c = 0; c < head_dim_; c += step_) {
      for_each_tile<kA>([&](auto a) {
        load_tile<Shapes::a(a())>(a_ + a() * n_q_ * kByteStride + c, kByteStride);
      });
      for_each_tile<kT>([&](auto t) {
        const std::byte* const rows = keys[t()].rows + c * kLanes;
        load_tile<Shapes::kB>(rows, kTileRowBytes);
        fetch_tile(rows, kTileRowBytes, step_, keys[t()].ahead);
        for_each_tile<kA>(
            [&](auto a) { multiply_bytes<t() * kA + a(), Shapes::a(a()), Shapes::kB>(); });
      });
    }
    for_each_tile<kT * kA>([&](auto c) {
      store_tile<c()>(sums + c() / kA * kSumsOfTile + c() % kA * n_q_ * kLanes, kTileRowBytes);
    });
  }

  /// Scores of kT K tiles from their sums; those of query i go to out + i * stride.
  template <int kT>
  void scale(const ByteKeys* keys, const std::int32_t* sums, float* out, std::size_t stride) const {
    const bool are_few = head_dim_ <= kByteRun;
    for_each_tile<kT>([&](auto t) {
      const __m512 scales = _mm512_maskz_cvtph_ps(
          __mmask16{0xffff},
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(keys[t()].scales)));
      for (std::size_t i = 0; i < n_q_; ++i) {
        const std::int32_t* const at = sums + t() * kSumsOfTile + i * kLanes;
        const __m512i high = _mm512_load_si512(at), low = _mm512_load_si512(at + n_q_ * kLanes);
        const __m512 sum = are_few ? join_few(high, low) : join(high, low);
        _mm512_storeu_ps(out + i * stride + t() * kLanes,
                         _mm512_mul_ps(_mm512_mul_ps(sum, _mm512_set1_ps(units_[i])), scales));
      }
    });
  }

 private:
  const std::size_t n_q_, head_dim_, step_;
  const TileScope tiles_;
  float units_[kMaxRows];
  alignas(64) std::int8_t a_[2 * kMaxRows * kByteStride];
};

/// V tiles of 16 channels of some tokens, four in each row of 64 bytes. `ahead` as ByteKeys has it.
struct ByteChannels {
  const std::byte* data;
  std::size_t tile, row;  // tiles and rows are so far apart
  std::ptrdiff_t ahead;
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

  /// `n_together`: tokens of ByteChannels.
  ByteWeights(std::size_t n_q, std::size_t n_together)
      : n_q_(n_q),
        n_together_(n_together),
        step_(step_of(n_together)),
        tiles_(Shapes::of(n_q, step_)) {}

  /// Weights of n_tokens tokens, times the scales of their rows.
  void round(ScoreTile weights, const float* scales, std::size_t n_tokens) {
    alignas(64) float scaled[kByteRun];
    for (std::size_t i = 0; i < n_q_; ++i) {
      const float* const row = weights.data + i * weights.stride;
      const Rounding rounding = avx512::rounding_of_products(row, scales, n_tokens, scaled);
      std::int8_t *high = a_ + i * kByteStride, *low = high + n_q_ * kByteStride;
      rounding.split(scaled, n_tokens, high, low);
      units_[i] = rounding.unit;
      if (n_tokens % n_together_ == 0) continue;
      const std::size_t end = avx512::whole_steps(n_tokens);  // tiles may end behind it
      _mm512_storeu_si512(high + end, _mm512_setzero_si512());
      _mm512_storeu_si512(low + end, _mm512_setzero_si512());
    }
  }

  template <int kC>
  void begin() const {
    for_each_tile<kC * kA>([&](auto c) { zero_tile<c()>(); });
  }
  /// Rows whose weights begin at `first`, of which `n_left` tokens are left.
  template <int kC>
  void add(std::size_t first, std::size_t n_left, const ByteChannels& v) const {
    const std::byte* rows = v.data;
    const std::size_t n = n_left < n_together_ ? n_left : n_together_;
    for (std::size_t t = 0; t < n; t += step_, rows += step_ / 4 * v.row) {
      for_each_tile<kA>([&](auto a) {
        load_tile<Shapes::a(a())>(a_ + a() * n_q_ * kByteStride + first + t, kByteStride);
      });
      for_each_tile<kC>([&](auto c) {
        load_tile<Shapes::kB>(rows + c() * v.tile, v.row);
        fetch_tile(rows + c() * v.tile, v.row, step_, v.ahead);
        for_each_tile<kA>(
            [&](auto a) { multiply_bytes<c() * kA + a(), Shapes::a(a()), Shapes::kB>(); });
      });
    }
  }
  /// Adds the sums of kC tiles to out [n_q, head_dim].
  template <int kC>
  void end(float* out, std::size_t head_dim) const {
    alignas(64) std::int32_t sums[kC * kSumsOfTile];
    for_each_tile<kC * kA>([&](auto c) {
      store_tile<c()>(sums + c() / kA * kSumsOfTile + c() % kA * n_q_ * kLanes, kTileRowBytes);
    });
    for (std::size_t i = 0; i < n_q_; ++i, out += head_dim) {
      const __m512 unit = _mm512_set1_ps(units_[i]);
      for (std::size_t c = 0; c < std::size_t{kC}; ++c) {
        const std::int32_t* const at = sums + c * kSumsOfTile + i * kLanes;
        const __m512 sum = join_few(_mm512_load_si512(at), _mm512_load_si512(at + n_q_ * kLanes));
        const __m512 before = _mm512_loadu_ps(out + c * kLanes);
        _mm512_storeu_ps(out + c * kLanes, _mm512_fmadd_ps(sum, unit, before));
      }
    }
  }

 private:
  const std::size_t n_q_, n_together_, step_;
  const TileScope tiles_;
  float units_[kMaxRows];
  alignas(64) std::int8_t a_[2 * kMaxRows * kByteStride];
};

}  // namespace
}  // namespace larder::simd::amx
