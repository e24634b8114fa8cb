#include "simd/avx2/lanes.h"
#include "simd/avx2/primitives.h"
#include "simd/packed_loop.h"

// A panel is four vectors wide; a tile works on one of these quarters after the other. How bytes
// are multiplied without overflow is said in linear_q8.cc.
namespace larder::simd::avx2 {
namespace {

constexpr std::size_t kLanes = 8, kHeadBytes = kPanelRows * 2, kPieceBytes = kPanelRows * 4;

__m256i broadcast4(const void* p) {
  int four = 0;
  std::memcpy(&four, p, sizeof four);
  return _mm256_set1_epi32(four);
}

__m256i load(const std::byte* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }

template <class Tile>
void prefetch_next(const Tile& tile, std::size_t group) {
  const std::byte* next = tile.next + group * tile.n_next_lines * 64;
  for (std::size_t i = 0; i < tile.n_next_lines; ++i) {
    _mm_prefetch(reinterpret_cast<const char*>(next + i * 64), _MM_HINT_T1);
  }
}

/// One quarter of a tile's results: n_rows of its rows exist.
struct Quarter {
  float* out;
  std::size_t n_rows, ld_out;

  template <class Tile>
  Quarter(const Tile& tile, std::size_t first_row)
      : out(tile.out + first_row),
        n_rows(tile.n_rows - first_row < kLanes ? tile.n_rows - first_row : kLanes),
        ld_out(tile.ld_out) {}

  __m256 load_sums(int t) const {
    const float* p = out + static_cast<std::size_t>(t) * ld_out;
    return n_rows == kLanes ? _mm256_loadu_ps(p) : load_first(p, n_rows);
  }
  void store_sums(int t, __m256 v) const {
    float* p = out + static_cast<std::size_t>(t) * ld_out;
    if (n_rows == kLanes) {
      _mm256_storeu_ps(p, v);
    } else {
      store_first(p, v, n_rows);
    }
  }
};

/// A group of columns of a tile of x (simd.h), from some row on.
struct Q8X {
  const std::byte* data;  // of all rows
  std::size_t n_groups, n_rows;
  const std::byte* group;
  std::size_t word_bytes;  // from a word of all rows of the tile to their next word

  Q8X at(std::size_t row, std::size_t col) const {
    const std::size_t t = row % kQ8TileRows, first = row - t;
    const std::size_t h = n_rows - first < kQ8TileRows ? n_rows - first : kQ8TileRows;
    const std::byte* tile = data + (first * n_groups + col / 32 * h) * kQ8GroupBytes;
    return {data, n_groups, n_rows, tile + t * 4, h * 4};
  }
  __m256i word(std::size_t i, int t) const { return broadcast4(group + i * word_bytes + t * 4); }
};

/// Eight pieces of four columns; products of a piece fit 16 bits alone.
struct Q8_0 {
  static constexpr std::size_t bytes = 8 * kPieceBytes;

  static __m256i start(const Q8X&, int) { return _mm256_setzero_si256(); }  // codes become signed
  template <int kX>
  [[gnu::always_inline]] static void add_products(const std::byte* codes, const Q8X& x,
                                                  __m256i (&sums)[kX]) {
    const __m256i flip = _mm256_set1_epi8(static_cast<char>(0x80)), ones = _mm256_set1_epi16(1);
#pragma GCC unroll 8
    for (std::size_t i = 0; i < 8; ++i) {
      const __m256i w = _mm256_xor_si256(load(codes + i * kPieceBytes), flip);
      const __m256i size = _mm256_abs_epi8(w);
      for (int t = 0; t < kX; ++t) {
        const __m256i product = _mm256_maddubs_epi16(size, _mm256_sign_epi8(x.word(3 + i, t), w));
        sums[t] = _mm256_add_epi32(sums[t], _mm256_madd_epi16(product, ones));
      }
    }
  }
};

/// Four pieces of twice four columns; 16 bits hold the sum of all eight products of a lane.
struct Q4_0 {
  static constexpr std::size_t bytes = 4 * kPieceBytes;

  static __m256i start(const Q8X& x, int t) { return x.word(2, t); }
  template <int kX>
  [[gnu::always_inline]] static void add_products(const std::byte* codes, const Q8X& x,
                                                  __m256i (&sums)[kX]) {
    const __m256i nibble = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    __m256i narrow[kX];
    for (int t = 0; t < kX; ++t) narrow[t] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (std::size_t i = 0; i < 4; ++i) {
      const __m256i both = load(codes + i * kPieceBytes);
      const __m256i low = _mm256_and_si256(both, nibble);
      const __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
      for (int t = 0; t < kX; ++t) {
        narrow[t] = _mm256_add_epi16(narrow[t], _mm256_maddubs_epi16(low, x.word(3 + i, t)));
        narrow[t] = _mm256_add_epi16(narrow[t], _mm256_maddubs_epi16(high, x.word(7 + i, t)));
        // GCC would turn the chain of sums into a tree and spill its leaves.
        __asm__("" : "+x"(narrow[t]));
      }
    }
    for (int t = 0; t < kX; ++t) {
      sums[t] = _mm256_add_epi32(sums[t], _mm256_madd_epi16(narrow[t], ones));
    }
  }
};

template <class Format, int kX>
void multiply_q8(const PackedTile<Q8X>& tile) {
  constexpr std::size_t kGroupBytes = kHeadBytes + Format::bytes;
  for (std::size_t r = 0; r < tile.n_rows; r += kLanes) {
    const Quarter quarter(tile, r);
    const std::byte* group = tile.panel;
    __m256 out[kX];
    for (int t = 0; t < kX; ++t) {
      out[t] = tile.is_first ? _mm256_setzero_ps() : quarter.load_sums(t);
    }
    Q8X x = tile.x;
    for (std::size_t g = 0; g < tile.n_groups; ++g, group += kGroupBytes) {
      if (r == 0) prefetch_next(tile, g);
      __m256i sums[kX];
      for (int t = 0; t < kX; ++t) sums[t] = Format::start(x, t);
      Format::template add_products<kX>(group + kHeadBytes + r * 4, x, sums);
      const __m256 w_scale =
          _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(group + r * 2)));
      for (int t = 0; t < kX; ++t) {
        const __m256 scale = _mm256_mul_ps(w_scale, _mm256_castsi256_ps(x.word(0, t)));
        out[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[t]), scale, out[t]);
      }
      x.group += 11 * x.word_bytes;
    }
    for (int t = 0; t < kX; ++t) quarter.store_sums(t, out[t]);
  }
}

template <class Format>
struct Q8Kernels {
  using X = Q8X;
  static constexpr std::size_t kX = 3;  // half a tile: 9 accumulators of 16 registers
  static constexpr std::size_t kGroupCols = 32, kGroupBytes = kHeadBytes + Format::bytes;
  static constexpr std::size_t kChunkGroups = 16 * 1024 / Format::bytes;
  static void run(const PackedTile<X>& tile, std::size_t n_x) {
    static constexpr void (*kAll[kX])(const PackedTile<X>&) = {
        multiply_q8<Format, 1>, multiply_q8<Format, 2>, multiply_q8<Format, 3>};
    kAll[n_x - 1](tile);
  }
};

struct Bf16X {
  const std::uint16_t* v;
  std::size_t stride;

  Bf16X at(std::size_t row, std::size_t col) const { return {v + row * stride + col, stride}; }
};

/// The first and the second value of each pair as floats.
__m256 first_of(__m256i pairs) { return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)); }
__m256 second_of(__m256i pairs) {
  return _mm256_castsi256_ps(
      _mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000U))));
}

template <int kX>
void multiply_bf16(const PackedTile<Bf16X>& tile) {
  for (std::size_t r = 0; r < tile.n_rows; r += kLanes) {
    const Quarter quarter(tile, r);
    __m256 out[kX];
    for (int t = 0; t < kX; ++t) {
      out[t] = tile.is_first ? _mm256_setzero_ps() : quarter.load_sums(t);
    }
    for (std::size_t g = 0; g < tile.n_groups; ++g) {
      if (r == 0) prefetch_next(tile, g);
      const __m256i w = load(tile.panel + g * kPieceBytes + r * 4);
      for (int t = 0; t < kX; ++t) {
        const __m256i x =
            broadcast4(tile.x.v + static_cast<std::size_t>(t) * tile.x.stride + g * 2);
        out[t] = _mm256_fmadd_ps(first_of(w), first_of(x), out[t]);
        out[t] = _mm256_fmadd_ps(second_of(w), second_of(x), out[t]);
      }
    }
    for (int t = 0; t < kX; ++t) quarter.store_sums(t, out[t]);
  }
}

struct Bf16Kernels {
  using X = Bf16X;
  static constexpr std::size_t kX = 4;
  static constexpr std::size_t kGroupCols = 2, kGroupBytes = 128, kChunkGroups = 128;
  static void run(const PackedTile<X>& tile, std::size_t n_x) {
    static constexpr void (*kAll[kX])(const PackedTile<X>&) = {multiply_bf16<1>, multiply_bf16<2>,
                                                               multiply_bf16<3>, multiply_bf16<4>};
    kAll[n_x - 1](tile);
  }
};

}  // namespace

void packed_q8_0(const PackedRows& w, const Q8Tiles& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  packed_loop<Q8Kernels<Q8_0>>(w, {x.data, x.n_cols / 32, n_x, x.data, 0}, n_x, out, ld_out);
}

void packed_q4_0(const PackedRows& w, const Q8Tiles& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  packed_loop<Q8Kernels<Q4_0>>(w, {x.data, x.n_cols / 32, n_x, x.data, 0}, n_x, out, ld_out);
}

void packed_bf16(const PackedRows& w, const Bf16Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  packed_loop<Bf16Kernels>(w, {x.v, x.stride}, n_x, out, ld_out);
}

void round_bf16(const float* x, std::size_t n_rows, std::size_t n_cols, const Bf16Rows& rows) {
  for (std::size_t t = 0; t < n_rows; ++t) {
    std::uint16_t* to = rows.v + t * rows.stride;
    for (std::size_t c = 0; c < rows.stride; ++c) {
      std::uint32_t u = 0;
      if (c < n_cols) std::memcpy(&u, x + t * n_cols + c, sizeof u);
      const bool is_nan = (u & 0x7fffffffU) > 0x7f800000U;
      const std::uint32_t rounded = u + 0x7fffU + ((u >> 16) & 1U);
      to[c] = static_cast<std::uint16_t>(is_nan ? (u >> 16) | 0x40U : rounded >> 16);
    }
  }
}

}  // namespace larder::simd::avx2
