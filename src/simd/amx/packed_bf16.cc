#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "simd/amx/chunks.h"
#include "simd/amx/linear.h"
#include "simd/amx/tiles.h"
#include "simd/packed_loop.h"

// Two tiles of x with the two halves of a panel: eight tile registers, and each that is loaded is
// multiplied twice. A sum stays in its register for the columns of a chunk and goes through memory
// as the float that it is, so its bits do not depend on chunks, nor on other rows: one row, too, is
// multiplied in tiles. Up to a tile of rows reads several panels side by side (packed_loop.h)
// where they come from memory. Their sums go there for each block, which takes no time beside that,
// but up to 1.6 times as long where panels stand in the second-level cache.
namespace larder::simd::amx {
namespace {

// A block is 32 columns: a tile of x, and 16 pairs of columns of a panel.
constexpr std::size_t kBlockCols = 32, kPairs = kBlockCols / 2;
constexpr std::size_t kPairBytes = kPanelRows * 4;
constexpr std::size_t kBlockBytes = kPairs * kPairBytes;  // of a panel
constexpr std::size_t kTileBytes = 1024;                  // of sums
constexpr std::size_t kTilesAtOnce = 2;
constexpr std::size_t kRowsAtOnce = kTilesAtOnce * kTileRows;
// Chunks of a panel stay in the first-level cache while the tiles of x pass, those of x in the
// second while the panels pass.
constexpr std::size_t kChunkBlocks = 8;
constexpr std::size_t kBlockRows = 256;  // of x
constexpr std::size_t kPanels = 4;
// Each panel asks for a part of the chunk of x that is used next.
constexpr std::size_t kNextXBytes = kRowsAtOnce * kTileRowBytes / kPanels;

std::size_t bytes_of_panel(const PackedRows& w) { return (w.n_cols + 1) / 2 * kPairBytes; }

/// Columns that fill no block are multiplied from a copy, filled up with zeros.
void copy_last_block(const std::byte* from, std::size_t n_pairs, std::byte* to) {
  std::memset(to, 0, kBlockBytes);
  std::memcpy(to, from, n_pairs * kPairBytes);
}

Chunks chunks_of(const Bf16Matrix& x) {
  const std::size_t n_blocks = (x.n_cols + kBlockCols - 1) / kBlockCols;
  // Sums of so few rows need not leave their registers.
  return {n_blocks, x.n_rows, x.n_rows <= kRowsAtOnce ? n_blocks : kChunkBlocks};
}

/// Some blocks of a panel and pairs of tiles of x, all pairs of the same heights.
struct Product {
  const std::byte* panel;
  std::size_t n_blocks;
  const std::byte* x[kTilesAtOnce];  // of the first pair
  std::size_t x_block_bytes[kTilesAtOnce];
  std::size_t x_pair_bytes;  // from one pair to the next
  std::size_t n_pairs;
  std::byte* sums;  // [n_pairs][2 tiles][2 halves][16][16]: go on from there and back
  bool is_first;    // begin with zeros
  // Asked for along the way: this many lines for each block.
  const std::byte* next;
  std::size_t n_next_lines;
  const std::byte* next_x;  // kNextXBytes for each block
  // Where the sums will go, if they go now: these lines are asked for, too.
  float* out;  // or null
  std::size_t ld_out;
};

template <int kTiles>
void multiply(const Product& p) {
  const std::byte* next = p.next;
  const std::size_t n_lines = p.n_next_lines;
  for (std::size_t pair = 0; pair < p.n_pairs; ++pair) {
    std::byte* sums = p.sums + pair * kTilesAtOnce * 2 * kTileBytes;
    if (p.is_first) {
      zero_tile<0>();
      zero_tile<1>();
      zero_tile<2>();
      zero_tile<3>();
    } else {
      load_tile<0>(sums, kTileRowBytes);
      load_tile<1>(sums + kTileBytes, kTileRowBytes);
      if constexpr (kTiles == 2) {
        load_tile<2>(sums + 2 * kTileBytes, kTileRowBytes);
        load_tile<3>(sums + 3 * kTileBytes, kTileRowBytes);
      }
    }
    float* out = p.out == nullptr ? nullptr : p.out + pair * kRowsAtOnce * p.ld_out;
    const std::size_t n_out_rows =
        p.out == nullptr ? 0 : (kRowsAtOnce + p.n_blocks - 1) / p.n_blocks;
    const std::byte* panel = p.panel;
    const std::byte* x0 = p.x[0] + pair * p.x_pair_bytes;
    const std::byte* next_x = p.next_x + pair * p.n_blocks * kNextXBytes;
    const std::byte* x1 = p.x[1] + pair * p.x_pair_bytes;
    for (std::size_t i = 0; i < p.n_blocks; ++i) {
      // What is read in one go is wanted at once, what waits for all tiles is kept out of the way.
      for (std::size_t l = 0; l < n_lines; ++l) {
        __builtin_prefetch(next + l * 64, 0, kTiles == 2 ? 2 : 3);
      }
      next += n_lines * 64;
      for (std::size_t r = 0; r < n_out_rows; ++r, out += p.ld_out) {
        __builtin_prefetch(out, 1);
        __builtin_prefetch(out + kTileRows, 1);
      }
      if constexpr (kTiles == 2) {
        for (std::size_t l = 0; l < kNextXBytes; l += 64) __builtin_prefetch(next_x + l, 0, 2);
        next_x += kNextXBytes;
      }
      load_tile<4>(x0, kTileRowBytes);
      load_tile<6>(panel, kPairBytes);
      multiply_bf16<0, 4, 6>();
      load_tile<7>(panel + kTileRowBytes, kPairBytes);
      multiply_bf16<1, 4, 7>();
      if constexpr (kTiles == 2) {
        load_tile<5>(x1, kTileRowBytes);
        multiply_bf16<2, 5, 6>();
        multiply_bf16<3, 5, 7>();
        x1 += p.x_block_bytes[1];
      }
      x0 += p.x_block_bytes[0];
      panel += kBlockBytes;
    }
    store_tile<0>(sums, kTileRowBytes);
    store_tile<1>(sums + kTileBytes, kTileRowBytes);
    if constexpr (kTiles == 2) {
      store_tile<2>(sums + 2 * kTileBytes, kTileRowBytes);
      store_tile<3>(sums + 3 * kTileBytes, kTileRowBytes);
    }
  }
}

/// Rows [first, first + n_x) of x, at most kBlockRows, `first` the first of a pair of tiles.
class Block {
 public:
  Block(const PackedRows& w, const Bf16Matrix& x, std::size_t first, std::size_t n_x)
      : w_(w), x_(x), chunks_(chunks_of(x)), first_(first), n_x_(n_x) {}

  void multiply_all(float* out, std::size_t ld_out) {
    const std::size_t n_panels = (w_.n_rows + kPanelRows - 1) / kPanelRows;
    const std::size_t at_once = n_x_ <= kRowsAtOnce ? 1 : kPanels;
    for (std::size_t first = 0; first < n_panels; first += at_once) {
      const std::size_t last = std::min(first + at_once, n_panels);
      for (std::size_t c = 0; c < chunks_.n(); ++c) {
        const bool is_last = c + 1 == chunks_.n() && n_x_ > kRowsAtOnce;
        for (std::size_t p = first; p < last; ++p) {
          multiply_chunk(p, c, sums_[p - first], is_last ? out + p * kPanelRows : nullptr, ld_out);
        }
      }
      copy_out(first, last, out, ld_out);
    }
  }

 private:
  void multiply_chunk(std::size_t panel, std::size_t chunk, std::byte* sums, float* out,
                      std::size_t ld_out) {
    const std::size_t first_block = chunks_.first(chunk), n_blocks = chunks_.size(chunk);
    const std::byte* weights = w_.data + panel * bytes_of_panel(w_) + first_block * kBlockBytes;
    const std::size_t cols_left = w_.n_cols - first_block * kBlockCols;
    const std::size_t n_whole = std::min(n_blocks, cols_left / kBlockCols);
    if (n_whole < n_blocks) {
      copy_last_block(weights + n_whole * kBlockBytes, (cols_left % kBlockCols + 1) / 2,
                      last_block_);
    }
    const std::size_t n_whole_pairs = n_x_ / kRowsAtOnce, n_rest = n_x_ % kRowsAtOnce;
    const std::size_t n_pairs = n_whole_pairs + (n_rest != 0 ? 1 : 0);
    const std::byte* next = weights + (n_pairs == 1 ? kAheadBytes : n_blocks * kBlockBytes);
    const std::size_t n_next_lines = (kBlockBytes / 64 + n_pairs - 1) / n_pairs;
    const auto run = [&](std::size_t pair, std::size_t n, std::size_t n_rows) {
      const std::size_t rows[kTilesAtOnce] = {std::min(n_rows, kTileRows),
                                              n_rows > kTileRows ? n_rows - kTileRows : 0};
      Product p{};
      for (std::size_t i = 0; i < kTilesAtOnce; ++i) p.x_block_bytes[i] = rows[i] * kTileRowBytes;
      p.x[0] = reinterpret_cast<const std::byte*>(x_.v) +
               chunks_.at(chunk, first_ + pair * kRowsAtOnce) * kTileRowBytes;
      p.x[1] = p.x[0] + n_blocks * p.x_block_bytes[0];
      p.next_x = reinterpret_cast<const std::byte*>(x_.v) +
                 chunks_.at((chunk + 1) % chunks_.n(), first_) * kTileRowBytes +
                 (panel % kPanels * n_pairs + pair) * n_blocks * kNextXBytes;
      p.x_pair_bytes = n_blocks * kRowsAtOnce * kTileRowBytes;
      p.n_pairs = n;
      p.sums = sums + pair * kRowsAtOnce * kPanelRows * sizeof(float);
      p.is_first = chunk == 0;
      p.next = next + pair * n_whole * n_next_lines * 64;
      p.n_next_lines = n_next_lines;
      p.out = out == nullptr ? nullptr : out + pair * kRowsAtOnce * ld_out;
      p.ld_out = ld_out;
      p.panel = weights;
      p.n_blocks = n_whole;
      configure(rows[0], rows[1]);
      const auto multiply_them = rows[1] != 0 ? multiply<2> : multiply<1>;
      if (n_whole != 0) multiply_them(p);
      if (n_whole == n_blocks) return;
      for (std::size_t i = 0; i < kTilesAtOnce; ++i) p.x[i] += n_whole * p.x_block_bytes[i];
      p.panel = last_block_;
      p.n_blocks = 1;
      p.is_first = p.is_first && n_whole == 0;
      multiply_them(p);
    };
    if (n_whole_pairs != 0) run(0, n_whole_pairs, kRowsAtOnce);
    if (n_rest != 0) run(n_whole_pairs, 1, n_rest);
  }

  /// Tiles of x of these heights. Costs as much as ten products.
  void configure(std::size_t rows0, std::size_t rows1) {
    if (tiles_ && rows0 == rows_[0] && rows1 == rows_[1]) return;
    TileShapes shapes;
    for (const int tile : {0, 1, 4}) shapes.set(tile, rows0, kTileRowBytes);
    for (const int tile : {2, 3, 5}) shapes.set(tile, rows1 == 0 ? 1 : rows1, kTileRowBytes);
    for (const int tile : {6, 7}) shapes.set(tile, kTileRows, kTileRowBytes);
    tiles_.emplace(shapes);
    rows_[0] = rows0;
    rows_[1] = rows1;
  }

  /// Panels [first, last). Rows of `out` lie far apart, so all of them for each.
  void copy_out(std::size_t first, std::size_t last, float* out, std::size_t ld_out) const {
    const auto mask = [](std::size_t n) {
      return static_cast<__mmask16>(n >= 16 ? 0xffffU : (1U << n) - 1U);
    };
    const std::size_t n_rows = w_.n_rows - first * kPanelRows;
    for (std::size_t t = 0; t < n_x_; ++t, out += ld_out) {
      const std::size_t at = t / kTileRows * 2 * kTileBytes + t % kTileRows * kTileRowBytes;
      for (std::size_t h = 0; h < 2 * (last - first) && h * 16 < n_rows; ++h) {
        const std::byte* row = sums_[h / 2] + at + h % 2 * kTileBytes;
        _mm512_mask_storeu_ps(out + first * kPanelRows + h * 16, mask(n_rows - h * 16),
                              _mm512_load_ps(row));
      }
    }
  }

  const PackedRows& w_;
  const Bf16Matrix& x_;
  const Chunks chunks_;
  const std::size_t first_, n_x_;
  std::optional<TileScope> tiles_;
  std::size_t rows_[kTilesAtOnce] = {};
  alignas(64) std::byte sums_[kPanels][kBlockRows * kPanelRows * sizeof(float)];
  alignas(64) std::byte last_block_[kBlockBytes];
};

/// At most a tile of rows of x times kStreams runs of panels.
class StreamedRows {
 public:
  StreamedRows(const PackedRows& w, const Bf16Matrix& x)
      : n_blocks_((w.n_cols + kBlockCols - 1) / kBlockCols),
        n_pairs_((w.n_cols + 1) / 2),
        x_(x),
        tiles_(shapes(x.n_rows)) {}

  /// Panel p of each stream, these `apart` panels apart.
  void multiply(const std::byte* panels, std::size_t apart, float* out, std::size_t ld_out) {
    const std::size_t apart_bytes = apart * n_pairs_ * kPairBytes;
    for (std::size_t i = 0; i < n_blocks_; ++i) {
      load_tile<4>(reinterpret_cast<const std::byte*>(x_.v) + i * x_.n_rows * kTileRowBytes,
                   kTileRowBytes);
      const std::byte* block = panels + i * kBlockBytes;
      for (std::size_t s = 0; s < kStreams; s += 2) {
        add_block<0>(block + s * apart_bytes, i, sums_[s]);
        add_block<2>(block + (s + 1) * apart_bytes, i, sums_[s + 1]);
      }
    }
    for (std::size_t s = 0; s < kStreams; ++s, out += apart * kPanelRows) {
      for (std::size_t t = 0; t < x_.n_rows; ++t) {
        for (std::size_t h = 0; h < 2; ++h) {
          _mm512_storeu_ps(out + t * ld_out + h * 16, _mm512_load_ps(sums_[s][h][t]));
        }
      }
    }
  }

 private:
  static TileShapes shapes(std::size_t n_rows) {
    TileShapes shapes;
    for (int t = 0; t <= 4; ++t) shapes.set(t, n_rows, kTileRowBytes);
    for (const int tile : {6, 7}) shapes.set(tile, kTileRows, kTileRowBytes);
    return shapes;
  }

  /// Block i of a panel, its sums in tiles kSums and kSums + 1.
  template <int kSums>
  [[gnu::always_inline]] void add_block(const std::byte* block, std::size_t i,
                                        float (*sums)[kTileRows][16]) {
    // A quarter at a time: all at once would wait for each other.
    const std::byte* next = block + kAheadBytes;
    const auto ask = [&]() __attribute__((always_inline)) {
      for (std::size_t l = 0; l < kBlockBytes / 4; l += 64) __builtin_prefetch(next + l, 0, 2);
      next += kBlockBytes / 4;
    };
    alignas(64) std::byte last[kBlockBytes];
    const std::size_t n = n_pairs_ - i * kPairs;
    if (n < kPairs) {
      copy_last_block(block, n, last);
      block = last;
    }
    if (i == 0) {
      zero_tile<kSums>();
      zero_tile<kSums + 1>();
    } else {
      load_tile<kSums>(sums[0], kTileRowBytes);
      load_tile<kSums + 1>(sums[1], kTileRowBytes);
    }
    ask();
    load_tile<6>(block, kPairBytes);
    ask();
    multiply_bf16<kSums, 4, 6>();
    load_tile<7>(block + kTileRowBytes, kPairBytes);
    ask();
    multiply_bf16<kSums + 1, 4, 7>();
    ask();
    store_tile<kSums>(sums[0], kTileRowBytes);
    store_tile<kSums + 1>(sums[1], kTileRowBytes);
  }

  const std::size_t n_blocks_, n_pairs_;
  const Bf16Matrix& x_;
  const TileScope tiles_;
  alignas(64) float sums_[kStreams][2][kTileRows][16];
};

// More than the second-level cache holds.
constexpr std::size_t kStreamedBytes = 2 << 20;

/// Panels that were multiplied in streams: none, or those that are left over are fewer than
/// kStreams.
std::size_t multiply_streams(const PackedRows& w, const Bf16Matrix& x, float* out,
                             std::size_t ld_out) {
  const std::size_t n_each = w.n_rows / kPanelRows / kStreams;
  const std::size_t panel_bytes = bytes_of_panel(w);
  if (x.n_rows > kTileRows || kStreams * n_each * panel_bytes <= kStreamedBytes) return 0;
  StreamedRows rows(w, x);
  for (std::size_t p = 0; p < n_each; ++p) {
    rows.multiply(w.data + p * panel_bytes, n_each, out + p * kPanelRows, ld_out);
  }
  return kStreams * n_each;
}

}  // namespace

void tile_bf16_matrix(const float* x, std::size_t n_rows, const Bf16Matrix& matrix,
                      std::size_t first) {
  const Chunks chunks = chunks_of(matrix);
  for (std::size_t t = 0; t < n_rows; ++t) {
    const std::size_t tile = (first + t) / kTileRows * kTileRows, r = first + t - tile;
    const std::size_t height = std::min(kTileRows, matrix.n_rows - tile);
    const float* row = x + t * matrix.n_cols;
    for (std::size_t c = 0, col = 0; c < chunks.n(); ++c) {
      std::uint16_t* to = matrix.v + (chunks.at(c, tile) + r) * kBlockCols;
      for (std::size_t i = 0; i < chunks.size(c); ++i, col += kBlockCols) {
        const std::size_t left = matrix.n_cols - col;
        const auto mask = static_cast<__mmask32>(left >= 32 ? ~0U : (1U << left) - 1U);
        const __m512 low = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), row + col);
        const __m512 high =
            _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask >> 16), row + col + 16);
        _mm512_storeu_si512(to + i * height * kBlockCols,
                            reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
      }
    }
  }
}

void packed_bf16_matrix(const PackedRows& w, const Bf16Matrix& x, float* out, std::size_t ld_out) {
  const std::size_t n = multiply_streams(w, x, out, ld_out);
  const PackedRows rest{w.data + n * bytes_of_panel(w), w.n_rows - n * kPanelRows, w.n_cols};
  if (rest.n_rows == 0) return;
  for (std::size_t t = 0; t < x.n_rows; t += kBlockRows) {
    Block block(rest, x, t, std::min(kBlockRows, x.n_rows - t));
    block.multiply_all(out + n * kPanelRows + t * ld_out, ld_out);
  }
}

}  // namespace larder::simd::amx
