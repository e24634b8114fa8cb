#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "simd/amx/chunks.h"
#include "simd/amx/integer_weights.h"
#include "simd/amx/linear.h"
#include "simd/amx/tiles.h"

// What binds is not the products but the scales: while tiles are in use this processor multiplies
// or converts vectors of 16 floats once a cycle, not twice, and each sum wants two multiplications.
// So sums are not converted: they begin at the bits of a float so large that its unit is 1, which
// is subtracted again. Additions still go twice a cycle. (Conversions took 1.25 times as long.
// Codes multiplied as bf16, whose sums are floats at once, took 0.9 of the time in the first-level
// cache, but twice the memory, and more in all.)
namespace larder::simd::amx {
namespace {

// A chunk of a panel stays in the first-level cache while the tiles of x pass; that of x in the
// second while the panels pass.
constexpr std::size_t kChunkGroups = 8;
constexpr std::size_t kBlockRows = 512;  // of x
constexpr std::size_t kPanels = 4;
constexpr std::size_t kTileBytes = 512;  // of x: [16 rows][32 columns]
constexpr float kStart = 12582912.0F;    // 1.5 * 2^23; sums are below 2^20

// Tiles of x stand as [chunk][tile][group of the chunk][16 rows][32 columns], scales as
// [chunk][tile][group of the chunk][16 rows].
Chunks chunks_of(const Q8Matrix& x) {
  return {x.n_cols / 32, (x.n_rows + kMatrixRows - 1) / kMatrixRows, kChunkGroups};
}

/// A chunk of a panel.
struct alignas(64) Weights {
  std::byte codes[kChunkGroups * kGroupTileBytes];
  float scales[kChunkGroups][kPanelRows];
};

template <class Codes>
void read_weights(const std::byte* panel, std::size_t n_groups, Weights& w) {
  for (std::size_t g = 0; g < n_groups; ++g, panel += kScaleBytes + Codes::kBytes) {
    for (std::size_t h = 0; h < 2; ++h) {
      const __m256i halves = _mm256_load_si256(reinterpret_cast<const __m256i*>(panel + h * 32));
      _mm512_store_ps(w.scales[g] + h * 16, _mm512_cvtph_ps(halves));
    }
    Codes::read(panel + kScaleBytes, w.codes + g * kGroupTileBytes);
  }
}

/// Bytes that will be read next, asked for in equal pieces along the way.
struct Ahead {
  const std::byte* next;
  const std::byte* end;
  std::size_t piece;  // lines

  void ask() {
    for (std::size_t i = 0; i < piece && next < end; ++i, next += 64) {
      __builtin_prefetch(next, 0, 2);
    }
  }
};

/// Some tiles of x and a chunk of a panel, and the sums of these: those of row t at sums + t * 32.
struct ChunkProduct {
  const std::byte* codes;  // of x
  const float* scales;
  std::size_t n_tiles, n_groups;
  const Weights* w;
  float* sums;  // [n_tiles * 16][32]
  bool is_first;
};

alignas(64) constexpr float kStarts[16] = {kStart, kStart, kStart, kStart, kStart, kStart,
                                           kStart, kStart, kStart, kStart, kStart, kStart,
                                           kStart, kStart, kStart, kStart};

/// The products of a chunk in their order: tiles of x, halves of the panel, groups.
class Products {
 public:
  explicit Products(const ChunkProduct& p)
      : a_(p.codes),
        b_(p.w->codes),
        n_groups_(p.n_groups),
        n_left_(p.n_groups),
        n_halves_(2 * p.n_tiles) {}

  /// The next one. Behind the last one come those of the last tile again.
  template <int kC, int kA, int kB>
  [[gnu::always_inline]] void start() {
    load_tile<kA>(a_, 32);
    load_tile<kB>(b_, kQuadBytes);
    load_tile<kC>(kStarts, 0);
    multiply_bytes<kC, kA, kB>();
    a_ += kTileBytes;
    b_ += kGroupTileBytes;
    if (--n_left_ == 0) next_half();
  }

 private:
  [[gnu::always_inline]] void next_half() {
    n_left_ = n_groups_;
    b_ -= n_groups_ * kGroupTileBytes;
    const bool was_second = --n_halves_ % 2 == 0;
    b_ += was_second ? -64 : 64;
    if (!was_second || n_halves_ == 0) a_ -= n_groups_ * kTileBytes;
    if (n_halves_ == 0) n_halves_ = 2;
  }

  const std::byte* a_;
  const std::byte* b_;
  std::size_t n_groups_, n_left_, n_halves_;
};

/// The sums of one half of a panel and one tile of x.
struct Sums {
  __m512 v[16];

  [[gnu::always_inline]] void load(const float* from, bool is_first) {
#pragma GCC unroll 16
    for (std::size_t r = 0; r < 16; ++r) {
      v[r] = is_first ? _mm512_setzero_ps() : _mm512_load_ps(from + r * kPanelRows);
    }
  }
  [[gnu::always_inline]] void store(float* to) const {
#pragma GCC unroll 16
    for (std::size_t r = 0; r < 16; ++r) _mm512_store_ps(to + r * kPanelRows, v[r]);
  }
  [[gnu::always_inline]] void add(const float (*started)[16], const float* x_scales,
                                  const float* w_scales) {
    const __m512 w_scale = _mm512_load_ps(w_scales), start = _mm512_set1_ps(kStart);
#pragma GCC unroll 16
    for (std::size_t r = 0; r < 16; ++r) {
      const __m512 sum = _mm512_sub_ps(_mm512_load_ps(started[r]), start);
      const __m512 scale = _mm512_mul_ps(w_scale, _mm512_set1_ps(x_scales[r]));
      v[r] = _mm512_fmadd_ps(sum, scale, v[r]);
    }
  }
};

void multiply(const ChunkProduct& p, Ahead ahead) {
  // Steps overlap: in each a product begins, the one before is written, and the sums of the third
  // before are scaled. Four tiles for four products on the way.
  alignas(64) float ring[4][16][16];
  Products products(p);
  products.start<0, 4, 6>();
  products.start<1, 5, 7>();
  store_tile<0>(ring[0], 64);
  products.start<2, 4, 6>();
  store_tile<1>(ring[1], 64);

  const std::size_t n_groups = p.n_groups;
  const bool is_first = p.is_first;
  const float* x_scales = p.scales;
  const float* w_scales = p.w->scales[0];
  float* out = p.sums;
  std::size_t n_halves = 2 * p.n_tiles, n_left = n_groups;
  Sums sums;
  sums.load(out, is_first);
  // The next tile of x, asked for from the second level while this one is used twice.
  const std::byte* next_x = p.codes + n_groups * kTileBytes;
  /// False behind the last one.
  const auto finish = [&](std::size_t slot) __attribute__((always_inline)) {
    ahead.ask();
    for (std::size_t l = 0; l < kTileBytes / 2; l += 64) __builtin_prefetch(next_x + l);
    next_x += kTileBytes / 2;
    sums.add(ring[slot], x_scales, w_scales);
    x_scales += 16;
    w_scales += kPanelRows;
    if (--n_left != 0) return true;
    sums.store(out);
    if (--n_halves == 0) return false;
    n_left = n_groups;
    const bool was_second = n_halves % 2 == 0;
    x_scales -= was_second ? 0 : n_groups * 16;
    w_scales -= n_groups * kPanelRows;
    w_scales += was_second ? -16 : 16;
    out += was_second ? 16 * static_cast<std::ptrdiff_t>(kPanelRows) - 16 : 16;
    sums.load(out, is_first);
    return true;
  };
  while (true) {
    products.start<3, 5, 7>();
    store_tile<2>(ring[2], 64);
    if (!finish(0)) break;
    products.start<0, 4, 6>();
    store_tile<3>(ring[3], 64);
    if (!finish(1)) break;
    products.start<1, 5, 7>();
    store_tile<0>(ring[0], 64);
    if (!finish(2)) break;
    products.start<2, 4, 6>();
    store_tile<1>(ring[1], 64);
    if (!finish(3)) break;
  }
}

constexpr TileShapes kShapes = [] {
  TileShapes shapes;
  for (const int tile : {0, 1, 2, 3}) shapes.set(tile, kTileRows, kTileRowBytes);
  for (const int tile : {4, 5}) shapes.set(tile, kTileRows, 32);
  for (const int tile : {6, 7}) shapes.set(tile, kQuads, kTileRowBytes);
  return shapes;
}();

void copy_out(const float* sums, std::size_t n_x, std::size_t n_rows, float* out,
              std::size_t ld_out) {
  const auto low = static_cast<__mmask16>(n_rows >= 16 ? 0xffffU : (1U << n_rows) - 1U);
  const auto high = static_cast<__mmask16>(n_rows >= 32  ? 0xffffU
                                           : n_rows > 16 ? (1U << (n_rows - 16)) - 1U
                                                         : 0U);
  for (std::size_t t = 0; t < n_x; ++t, out += ld_out, sums += kPanelRows) {
    _mm512_mask_storeu_ps(out, low, _mm512_load_ps(sums));
    _mm512_mask_storeu_ps(out + 16, high, _mm512_load_ps(sums + 16));
  }
}

/// Tiles [first_tile, first_tile + n_tiles) of x, at most kBlockRows rows, of which n_x exist.
template <class Codes>
void multiply_block(const PackedRows& w, const Q8Matrix& x, std::size_t first_tile, std::size_t n_x,
                    float* out, std::size_t ld_out) {
  constexpr std::size_t kGroupBytes = kScaleBytes + Codes::kBytes;
  alignas(64) float sums[kPanels][kBlockRows * kPanelRows];
  Weights weights;
  const std::size_t n_tiles = (n_x + kMatrixRows - 1) / kMatrixRows;
  const std::size_t n_panels = (w.n_rows + kPanelRows - 1) / kPanelRows;
  const Chunks chunks = chunks_of(x);
  const auto chunk_at = [&](std::size_t panel, std::size_t chunk) {
    return w.data + (panel * chunks.n_groups + chunks.first(chunk)) * kGroupBytes;
  };
  for (std::size_t first = 0; first < n_panels; first += kPanels) {
    const std::size_t last = std::min(first + kPanels, n_panels);
    for (std::size_t c = 0; c < chunks.n(); ++c) {
      const std::size_t n_groups = chunks.size(c), at = chunks.at(c, first_tile);
      for (std::size_t p = first; p < last; ++p) {
        read_weights<Codes>(chunk_at(p, c), n_groups, weights);
        // The next chunk is that of the next panel, or behind the last one the first one's next.
        const bool is_last = p + 1 == last, wraps = is_last && c + 1 == chunks.n();
        const std::size_t next_panel = !is_last ? p + 1 : wraps ? last : first;
        const std::size_t next_chunk = !is_last ? c : wraps ? 0 : c + 1;
        Ahead ahead{nullptr, nullptr, 0};
        if (next_panel < n_panels) {
          const std::size_t n_bytes = chunks.size(next_chunk) * kGroupBytes;
          ahead.next = chunk_at(next_panel, next_chunk);
          ahead.end = ahead.next + n_bytes;
          ahead.piece = n_bytes / 64 / (2 * n_tiles * n_groups) + 1;
        }
        multiply(
            {reinterpret_cast<const std::byte*>(x.codes) + at * kTileBytes,
             x.scales + at * kMatrixRows, n_tiles, n_groups, &weights, sums[p - first], c == 0},
            ahead);
      }
    }
    for (std::size_t p = first; p < last; ++p) {
      copy_out(sums[p - first], n_x, std::min(w.n_rows - p * kPanelRows, kPanelRows),
               out + p * kPanelRows, ld_out);
    }
  }
}

template <class Codes>
void multiply_all(const PackedRows& w, const Q8Matrix& x, float* out, std::size_t ld_out) {
  const TileScope scope(kShapes);
  for (std::size_t t = 0; t < x.n_rows; t += kBlockRows) {
    multiply_block<Codes>(w, x, t / kMatrixRows, std::min(kBlockRows, x.n_rows - t),
                          out + t * ld_out, ld_out);
  }
}

}  // namespace

void tile_q8_matrix(const Q8Rows& rows, std::size_t n_rows, const Q8Matrix& matrix,
                    std::size_t first) {
  const Chunks chunks = chunks_of(matrix);
  const std::size_t n_padded = (n_rows + kMatrixRows - 1) / kMatrixRows * kMatrixRows;
  for (std::size_t t = 0; t < n_padded; ++t) {
    const std::int8_t* q = rows.q + t * rows.n_cols;
    const float* scales = rows.scales + t * chunks.n_groups;
    for (std::size_t c = 0, g = 0; c < chunks.n(); ++c) {
      const std::size_t at = chunks.at(c, (first + t) / kMatrixRows);
      for (std::size_t i = 0; i < chunks.size(c); ++i, ++g) {
        const std::size_t row = (at + i) * kMatrixRows + t % kMatrixRows;
        auto* to = reinterpret_cast<__m256i*>(matrix.codes + row * 32);
        if (t >= n_rows) {  // nothing stands there; zeros make zeros
          _mm256_storeu_si256(to, _mm256_setzero_si256());
          matrix.scales[row] = 0.0F;
          continue;
        }
        _mm256_storeu_si256(to, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(q + g * 32)));
        matrix.scales[row] = scales[g];
      }
    }
  }
}

void packed_q8_0_matrix(const PackedRows& w, const Q8Matrix& x, float* out, std::size_t ld_out) {
  multiply_all<Q8_0Codes>(w, x, out, ld_out);
}

void packed_q4_0_matrix(const PackedRows& w, const Q8Matrix& x, float* out, std::size_t ld_out) {
  multiply_all<Q4_0Codes>(w, x, out, ld_out);
}

}  // namespace larder::simd::amx
