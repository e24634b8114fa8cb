#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "simd/amx/chunks.h"
#include "simd/amx/linear.h"
#include "simd/amx/tiles.h"

// Two tiles of x with the two halves of a panel: eight tile registers, and each that is loaded is
// multiplied twice. A sum stays in its register for the columns of a chunk and goes through memory
// as the float that it is, so its bits do not depend on chunks, nor on other rows: one row, too, is
// multiplied in tiles.
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
constexpr std::size_t kChunkBlocks = 16;
constexpr std::size_t kBlockRows = 256;  // of x
constexpr std::size_t kPanels = 4;
constexpr std::size_t kAheadBytes = 4096;  // of a panel that is read once, in order

Chunks chunks_of(const Bf16Matrix& x) {
  const std::size_t n_blocks = (x.n_cols + kBlockCols - 1) / kBlockCols;
  // Sums of so few rows need not leave their registers.
  return {n_blocks, x.n_rows, x.n_rows <= kRowsAtOnce ? n_blocks : kChunkBlocks};
}

/// One or two tiles of x and some blocks of a panel.
struct Product {
  const std::byte* x[kTilesAtOnce];
  std::size_t x_block_bytes[kTilesAtOnce];
  const std::byte* panel;
  std::size_t n_blocks;
  std::byte* sums;  // [2 tiles][2 halves][16][16], goes on from there and back
  bool is_first;    // begins with zeros
  // Asked for along the way: this many lines for each block.
  const std::byte* next;
  std::size_t n_next_lines;
};

template <int kTile>
[[gnu::always_inline]] inline void load_sums(const Product& p) {
  if (p.is_first) {
    zero_tile<kTile>();
  } else {
    load_tile<kTile>(p.sums + kTile * kTileBytes, kTileRowBytes);
  }
}

template <int kTiles>
void multiply(const Product& p) {
  load_sums<0>(p);
  load_sums<1>(p);
  if constexpr (kTiles == 2) {
    load_sums<2>(p);
    load_sums<3>(p);
  }
  const std::byte* panel = p.panel;
  const std::byte* x0 = p.x[0];
  const std::byte* x1 = p.x[1];
  const std::byte* next = p.next;
  const std::size_t step0 = p.x_block_bytes[0], step1 = p.x_block_bytes[1];
  const std::size_t n_lines = p.n_next_lines;
  for (std::size_t i = 0; i < p.n_blocks; ++i) {
    for (std::size_t l = 0; l < n_lines; ++l) __builtin_prefetch(next + l * 64);
    next += n_lines * 64;
    load_tile<4>(x0, kTileRowBytes);
    load_tile<6>(panel, kPairBytes);
    multiply_bf16<0, 4, 6>();
    load_tile<7>(panel + kTileRowBytes, kPairBytes);
    multiply_bf16<1, 4, 7>();
    if constexpr (kTiles == 2) {
      load_tile<5>(x1, kTileRowBytes);
      multiply_bf16<2, 5, 6>();
      multiply_bf16<3, 5, 7>();
      x1 += step1;
    }
    x0 += step0;
    panel += kBlockBytes;
  }
  store_tile<0>(p.sums, kTileRowBytes);
  store_tile<1>(p.sums + kTileBytes, kTileRowBytes);
  if constexpr (kTiles == 2) {
    store_tile<2>(p.sums + 2 * kTileBytes, kTileRowBytes);
    store_tile<3>(p.sums + 3 * kTileBytes, kTileRowBytes);
  }
}

TileShapes shapes_for(std::size_t rows0, std::size_t rows1) {
  TileShapes shapes;
  for (const int tile : {0, 1, 4}) shapes.set(tile, rows0, kTileRowBytes);
  for (const int tile : {2, 3, 5}) shapes.set(tile, rows1, kTileRowBytes);
  for (const int tile : {6, 7}) shapes.set(tile, kTileRows, kTileRowBytes);
  return shapes;
}

/// Sums of up to two tiles of x.
void copy_out(const std::byte* sums, std::size_t n_x, std::size_t n_rows, float* out,
              std::size_t ld_out) {
  const auto mask = [](std::size_t n) {
    return static_cast<__mmask16>(n >= 16 ? 0xffffU : (1U << n) - 1U);
  };
  const __mmask16 low = mask(n_rows), high = n_rows > 16 ? mask(n_rows - 16) : __mmask16{0};
  for (std::size_t t = 0; t < n_x; ++t, out += ld_out) {
    const std::byte* row = sums + t / kTileRows * 2 * kTileBytes + t % kTileRows * kTileRowBytes;
    _mm512_mask_storeu_ps(out, low, _mm512_load_ps(row));
    _mm512_mask_storeu_ps(out + 16, high, _mm512_load_ps(row + kTileBytes));
  }
}

/// Rows [first, first + n_x) of x, at most kBlockRows, `first` the first of a tile.
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
        for (std::size_t p = first; p < last; ++p) multiply_chunk(p, c, sums_[p - first]);
      }
      for (std::size_t p = first; p < last; ++p) {
        const std::size_t n_rows = std::min(w_.n_rows - p * kPanelRows, kPanelRows);
        for (std::size_t t = 0; t < n_x_; t += kRowsAtOnce) {
          copy_out(sums_[p - first] + t * kPanelRows * sizeof(float),
                   std::min(kRowsAtOnce, n_x_ - t), n_rows, out + t * ld_out + p * kPanelRows,
                   ld_out);
        }
      }
    }
  }

 private:
  void multiply_chunk(std::size_t panel, std::size_t chunk, std::byte* sums) {
    const std::size_t first_block = chunks_.first(chunk), n_blocks = chunks_.size(chunk);
    const std::size_t panel_bytes = (w_.n_cols + 1) / 2 * kPairBytes;
    const std::byte* weights = w_.data + panel * panel_bytes + first_block * kBlockBytes;
    const std::size_t cols_left = w_.n_cols - first_block * kBlockCols;
    // Columns that fill no block are multiplied from a copy, filled up with zeros.
    const std::size_t n_whole = std::min(n_blocks, cols_left / kBlockCols);
    if (n_whole < n_blocks) {
      const std::size_t n_bytes = (cols_left % kBlockCols + 1) / 2 * kPairBytes;
      std::memset(last_block_, 0, kBlockBytes);
      std::memcpy(last_block_, weights + n_whole * kBlockBytes, n_bytes);
    }
    const std::size_t n_pairs = (n_x_ + kRowsAtOnce - 1) / kRowsAtOnce;
    Product p{};
    p.next = weights + (n_pairs == 1 ? kAheadBytes : n_blocks * kBlockBytes);
    p.n_next_lines = (kBlockBytes / 64 + n_pairs - 1) / n_pairs;
    for (std::size_t t = 0; t < n_x_; t += kRowsAtOnce) {
      const std::size_t n = std::min(kRowsAtOnce, n_x_ - t);
      const std::size_t rows[kTilesAtOnce] = {std::min(n, kTileRows),
                                              n > kTileRows ? n - kTileRows : kTileRows};
      const auto* x = reinterpret_cast<const std::byte*>(x_.v) +
                      chunks_.at(chunk, first_ + t) * kBlockCols * sizeof(std::uint16_t);
      for (std::size_t i = 0; i < kTilesAtOnce; ++i) p.x_block_bytes[i] = rows[i] * kTileRowBytes;
      p.x[0] = x;
      p.x[1] = x + n_blocks * p.x_block_bytes[0];
      p.panel = weights;
      p.n_blocks = n_whole;
      p.sums = sums + t * kPanelRows * sizeof(float);
      p.is_first = chunk == 0;
      const TileScope scope(shapes_for(rows[0], rows[1]));
      const auto multiply_some = n > kTileRows ? multiply<2> : multiply<1>;
      multiply_some(p);
      p.next += n_whole * p.n_next_lines * 64;
      if (n_whole < n_blocks) {
        Product rest = p;
        for (std::size_t i = 0; i < kTilesAtOnce; ++i) rest.x[i] += n_whole * p.x_block_bytes[i];
        rest.panel = last_block_;
        rest.n_blocks = 1;
        rest.is_first = p.is_first && n_whole == 0;
        multiply_some(rest);
      }
    }
  }

  const PackedRows& w_;
  const Bf16Matrix& x_;
  const Chunks chunks_;
  const std::size_t first_, n_x_;
  alignas(64) std::byte sums_[kPanels][kBlockRows * kPanelRows * sizeof(float)];
  alignas(64) std::byte last_block_[kBlockBytes];
};

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
  for (std::size_t t = 0; t < x.n_rows; t += kBlockRows) {
    Block block(w, x, t, std::min(kBlockRows, x.n_rows - t));
    block.multiply_all(out + t * ld_out, ld_out);
  }
}

}  // namespace larder::simd::amx
