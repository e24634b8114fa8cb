#include <immintrin.h>

#include <cstring>

#include "simd/avx512/primitives.h"
#include "simd/packed_loop.h"

// A panel is two vectors wide. VNNI multiplies unsigned by signed bytes: codes are stored unsigned
// and a sum starts at minus offset * sum(x). Everything up to the scales is exact integer
// arithmetic, and the order of the float additions is that of the groups, in any tile.
namespace larder::simd::avx512 {
namespace {

constexpr int kHalves = 2;
constexpr std::size_t kHeadBytes = kPanelRows * 2;

__m512i broadcast4(const void* p) {
  int four = 0;
  std::memcpy(&four, p, sizeof four);
  return _mm512_set1_epi32(four);
}

constexpr int kFirstLevel = 3, kSecondLevel = 2;  // of __builtin_prefetch

/// Which rows of a half exist.
__mmask16 row_mask(std::size_t n_rows, int half) {
  const std::size_t before = static_cast<std::size_t>(half) * 16;
  if (n_rows <= before) return 0;
  return static_cast<__mmask16>(n_rows >= before + 16 ? 0xffffU : (1U << (n_rows - before)) - 1U);
}

/// The accumulators of a tile and where they come from and go to.
template <int kX>
struct Sums {
  __m512 v[kHalves][kX];

  Sums() {  // zeros
    for (auto& half : v) {
      for (auto& sum : half) sum = _mm512_setzero_ps();
    }
  }
  template <class Tile>
  explicit Sums(const Tile& tile) {
    const float* row = tile.out;
    const std::size_t ld_out = tile.ld_out;
    // Sums that begin here read nothing, since the mask is empty, and are zero.
    const __mmask16 masks[kHalves] = {tile.is_first ? __mmask16{0} : row_mask(tile.n_rows, 0),
                                      tile.is_first ? __mmask16{0} : row_mask(tile.n_rows, 1)};
    for (int t = 0; t < kX; ++t, row += ld_out) {
      for (int h = 0; h < kHalves; ++h) v[h][t] = _mm512_maskz_loadu_ps(masks[h], row + h * 16);
    }
  }
  template <class Tile>
  void store(const Tile& tile) const {
    float* row = tile.out;
    const std::size_t ld_out = tile.ld_out;
    const __mmask16 masks[kHalves] = {row_mask(tile.n_rows, 0), row_mask(tile.n_rows, 1)};
    for (int t = 0; t < kX; ++t, row += ld_out) {
      for (int h = 0; h < kHalves; ++h) _mm512_mask_storeu_ps(row + h * 16, masks[h], v[h][t]);
    }
  }
};

/// A group of columns of a tile of x (simd.h), from some row on.
struct Q8X {
  const std::byte* data;  // of all rows
  std::size_t n_groups, n_rows;
  const std::byte* group;

  Q8X at(std::size_t row, std::size_t col) const {
    const std::size_t h = n_rows - row < kQ8TileRows ? n_rows - row : kQ8TileRows;
    return {data, n_groups, n_rows, data + (row * n_groups + col / 32 * h) * kQ8GroupBytes};
  }
};

struct Q8_0 {
  static constexpr std::size_t bytes = 1024;  // of the codes of a group
  static constexpr std::size_t start = 1;     // which of the starts in a tile of x
  static constexpr std::size_t kPieces = 8;
  template <class F>
  static void for_each_quad(const std::byte* codes, std::size_t i, F&& use) {
    const std::byte* piece = codes + i * 128;
    use(i, _mm512_load_si512(piece), _mm512_load_si512(piece + 64));
  }
};

struct Q4_0 {
  static constexpr std::size_t bytes = 512;
  static constexpr std::size_t start = 2;
  static constexpr std::size_t kPieces = 4;
  template <class F>
  static void for_each_quad(const std::byte* codes, std::size_t i, F&& use) {
    const __m512i low = _mm512_set1_epi8(15);
    const __m512i a = _mm512_load_si512(codes + i * 128);
    const __m512i b = _mm512_load_si512(codes + i * 128 + 64);
    use(i, _mm512_and_si512(a, low), _mm512_and_si512(b, low));
    use(i + 4, _mm512_and_si512(_mm512_srli_epi16(a, 4), low),
        _mm512_and_si512(_mm512_srli_epi16(b, 4), low));
  }
};

/// Adds a group of columns. `ask(i)` asks for line i of what is read later: a few of them at a
/// time, for all at once would wait for each other. What is unpacked while it is read comes faster
/// by way of the second level (1.2x): between memory and that one more lines are under way.
template <class Format, int kX, class Ask>
[[gnu::always_inline]] inline void add_q8_group(const std::byte* group, const std::byte* x,
                                                const Ask& ask, Sums<kX>& out) {
  constexpr std::size_t kWords = kX * 4;
  constexpr std::size_t kLines = (kHeadBytes + Format::bytes) / 64;
  __m512i sums[kHalves][kX];
  for (std::size_t t = 0; t < kX; ++t) {
    sums[0][t] = sums[1][t] = broadcast4(x + Format::start * kWords + t * 4);
  }
// GCC 12 copies every accumulator twice around a loop that it keeps.
#pragma GCC unroll 8
  for (std::size_t i = 0; i < Format::kPieces; ++i) {
    ask(2 * i);
    ask(2 * i + 1);
    Format::for_each_quad(group + kHeadBytes, i, [&](std::size_t quad, __m512i w0, __m512i w1) {
      for (std::size_t t = 0; t < kX; ++t) {
        const __m512i four = broadcast4(x + (3 + quad) * kWords + t * 4);
        sums[0][t] = _mm512_dpbusd_epi32(sums[0][t], w0, four);
        sums[1][t] = _mm512_dpbusd_epi32(sums[1][t], w1, four);
      }
    });
  }
  static_assert(kLines == 2 * Format::kPieces + 1);
  ask(kLines - 1);
  for (int h = 0; h < kHalves; ++h) {
    const __m512 w_scale =
        _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(group + h * 32)));
    for (std::size_t t = 0; t < kX; ++t) {
      const __m512 x_scale = _mm512_castsi512_ps(broadcast4(x + t * 4));
      out.v[h][t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[h][t]), _mm512_mul_ps(w_scale, x_scale),
                                    out.v[h][t]);
    }
  }
}

template <class Format, int kX>
void multiply_q8(const PackedTile<Q8X>& tile) {
  constexpr std::size_t kGroupBytes = kHeadBytes + Format::bytes;
  Sums<kX> out(tile);
  const std::byte *group = tile.panel, *x = tile.x.group, *next = tile.next;
  for (std::size_t g = 0; g < tile.n_groups; ++g) {
    const auto ask = [&](std::size_t i) __attribute__((always_inline)) {
      if (i < tile.n_next_lines) __builtin_prefetch(next + i * 64, 0, kSecondLevel);
    };
    add_q8_group<Format>(group, x, ask, out);
    group += kGroupBytes;
    x += kX * kQ8GroupBytes;
    next += tile.n_next_lines * 64;
  }
  out.store(tile);
}

template <class Format, int kX>
void stream_q8(const PackedStreams<Q8X>& streams) {
  constexpr std::size_t kGroupBytes = kHeadBytes + Format::bytes;
  Sums<kX> out[kStreams];
  const std::byte *group = streams.panel, *x = streams.x.group;
  for (std::size_t g = 0; g < streams.n_groups; ++g) {
    const auto add = [&](std::size_t s) __attribute__((always_inline)) {
      const std::byte* const now = group + s * streams.apart;
      const auto ask = [&](std::size_t i) __attribute__((always_inline)) {
        __builtin_prefetch(now + kStreamAheadBytes + i * 64, 0, kSecondLevel);
      };
      add_q8_group<Format>(now, x, ask, out[s]);
    };
    if constexpr (kX <= 4) {
#pragma GCC unroll 4
      for (std::size_t s = 0; s < kStreams; ++s) add(s);
    } else {  // unrolled, the sums of all streams would compete for registers (up to 1.9x as long)
#pragma GCC unroll 1
      for (std::size_t s = 0; s < kStreams; ++s) add(s);
    }
    group += kGroupBytes;
    x += kX * kQ8GroupBytes;
  }
  for (std::size_t s = 0; s < kStreams; ++s) out[s].store(streams.tile(s));
}

template <class Format>
struct Q8Kernels {
  using X = Q8X;
  static constexpr std::size_t kX = kQ8TileRows;  // 12 integer and 12 float accumulators
  static constexpr std::size_t kGroupCols = 32, kGroupBytes = kHeadBytes + Format::bytes;
  static constexpr std::size_t kChunkGroups = 16 * 1024 / Format::bytes;
  static void run(const PackedTile<X>& tile, std::size_t n_x) {
    static_assert(kX == 6);
    static constexpr void (*kAll[kX])(const PackedTile<X>&) = {
        multiply_q8<Format, 1>, multiply_q8<Format, 2>, multiply_q8<Format, 3>,
        multiply_q8<Format, 4>, multiply_q8<Format, 5>, multiply_q8<Format, 6>};
    kAll[n_x - 1](tile);
  }
  static void run(const PackedStreams<X>& streams, std::size_t n_x) {
    static constexpr void (*kAll[kX])(const PackedStreams<X>&) = {
        stream_q8<Format, 1>, stream_q8<Format, 2>, stream_q8<Format, 3>,
        stream_q8<Format, 4>, stream_q8<Format, 5>, stream_q8<Format, 6>};
    kAll[n_x - 1](streams);
  }
};

struct Bf16X {
  const std::uint16_t* v;
  std::size_t stride;

  Bf16X at(std::size_t row, std::size_t col) const { return {v + row * stride + col, stride}; }
};

/// Adds a group, pairs of columns `pair` of x.
template <int kX>
[[gnu::always_inline]] inline void add_bf16_group(const std::byte* group, const Bf16X& x,
                                                  std::size_t pair, Sums<kX>& out) {
  __m512bh w[kHalves];
  for (std::size_t h = 0; h < kHalves; ++h) {
    w[h] = reinterpret_cast<__m512bh>(_mm512_load_si512(group + h * 64));
  }
  for (int t = 0; t < kX; ++t) {
    const auto two = reinterpret_cast<__m512bh>(
        broadcast4(x.v + static_cast<std::size_t>(t) * x.stride + pair * 2));
    for (int h = 0; h < kHalves; ++h) out.v[h][t] = _mm512_dpbf16_ps(out.v[h][t], w[h], two);
  }
}

template <int kX>
void multiply_bf16(const PackedTile<Bf16X>& tile) {
  Sums<kX> out(tile);
  const std::byte* next = tile.next;
  for (std::size_t g = 0; g < tile.n_groups; ++g) {
    for (std::size_t i = 0; i < tile.n_next_lines; ++i, next += 64) {
      __builtin_prefetch(next, 0, kFirstLevel);
    }
    add_bf16_group(tile.panel + g * 128, tile.x, g, out);
  }
  out.store(tile);
}

template <int kX>
void stream_bf16(const PackedStreams<Bf16X>& streams) {
  constexpr std::size_t kChunk = 8;  // groups of a stream at a time
  Sums<kX> out[kStreams];
  for (std::size_t g = 0; g < streams.n_groups; g += kChunk) {
    const std::size_t end = g + kChunk < streams.n_groups ? g + kChunk : streams.n_groups;
    for (std::size_t s = 0; s < kStreams; ++s) {
      const std::byte* const panel = streams.panel + s * streams.apart;
      Sums<kX> sums = out[s];
      for (std::size_t i = g; i < end; ++i) {
        __builtin_prefetch(panel + kStreamAheadBytes + i * 128, 0, kFirstLevel);
        __builtin_prefetch(panel + kStreamAheadBytes + i * 128 + 64, 0, kFirstLevel);
        add_bf16_group(panel + i * 128, streams.x, i, sums);
      }
      out[s] = sums;
    }
  }
  for (std::size_t s = 0; s < kStreams; ++s) out[s].store(streams.tile(s));
}

struct Bf16Kernels {
  using X = Bf16X;
  static constexpr std::size_t kX = 8;
  static constexpr std::size_t kGroupCols = 2, kGroupBytes = 128, kChunkGroups = 128;
  static void run(const PackedTile<X>& tile, std::size_t n_x) {
    static constexpr void (*kAll[kX])(const PackedTile<X>&) = {
        multiply_bf16<1>, multiply_bf16<2>, multiply_bf16<3>, multiply_bf16<4>,
        multiply_bf16<5>, multiply_bf16<6>, multiply_bf16<7>, multiply_bf16<8>};
    kAll[n_x - 1](tile);
  }
  static void run(const PackedStreams<X>& streams, std::size_t n_x) {
    static constexpr void (*kAll[kX])(const PackedStreams<X>&) = {
        stream_bf16<1>, stream_bf16<2>, stream_bf16<3>, stream_bf16<4>,
        stream_bf16<5>, stream_bf16<6>, stream_bf16<7>, stream_bf16<8>};
    kAll[n_x - 1](streams);
  }
};

}  // namespace

void packed_q8_0(const PackedRows& w, const Q8Tiles& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  packed_loop<Q8Kernels<Q8_0>>(w, {x.data, x.n_cols / 32, n_x, x.data}, n_x, out, ld_out);
}

void packed_q4_0(const PackedRows& w, const Q8Tiles& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  packed_loop<Q8Kernels<Q4_0>>(w, {x.data, x.n_cols / 32, n_x, x.data}, n_x, out, ld_out);
}

void packed_bf16(const PackedRows& w, const Bf16Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out) {
  packed_loop<Bf16Kernels>(w, {x.v, x.stride}, n_x, out, ld_out);
}

void round_bf16(const float* x, std::size_t n_rows, std::size_t n_cols, const Bf16Rows& rows) {
  for (std::size_t t = 0; t < n_rows; ++t) {
    const float* from = x + t * n_cols;
    std::uint16_t* to = rows.v + t * rows.stride;
    std::size_t c = 0;
    for (; c + 16 <= n_cols; c += 16) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + c),
                          reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_loadu_ps(from + c))));
    }
    const auto tail = static_cast<__mmask16>((1U << (n_cols - c)) - 1U);
    const auto last =
        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(tail, from + c)));
    const auto to_stride = static_cast<__mmask16>((1U << (rows.stride - c)) - 1U);
    _mm256_mask_storeu_epi16(to + c, to_stride, last);
  }
}

}  // namespace larder::simd::avx512
