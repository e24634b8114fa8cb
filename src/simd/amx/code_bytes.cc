// Runs of codes that stand for bytes: tiles are unpacked into the first-level cache and multiplied
// from there.
#include "simd/amx/byte_kernels.h"
#include "simd/amx/kv.h"
#include "simd/avx512/byte_lines.h"
#include "simd/by_number.h"

namespace larder::simd::amx {
namespace {

/// Up to so many queries times channels vectors unpack and multiply in registers faster than tiles
/// are filled, and wait less (amx/byte_rows.cc). The same bits.
std::size_t few_products(const CodeBook& book) { return book.bits < 4 ? 256 : 512; }

template <int kBits>
class UnpackedRows {
  using Reader = avx512::CodedLines<kBits>;

 public:
  static constexpr std::size_t kAhead = 8192;

  UnpackedRows(const CodeBook& book, BlockShape shape) : reader_(book, false), shape_(shape) {}

  std::size_t row_bytes() const { return bytes_of_rows(shape_) * kBits / 8; }
  std::size_t part_bytes() const { return row_bytes() + 2 * std::size_t{shape_.block_tokens}; }

  ByteKeys keys(const std::byte* part, std::size_t t, std::ptrdiff_t ahead, std::size_t slot) {
    std::byte* const rows = unpacked_ + slot * kLanes * shape_.head_dim;
    avx512::unpack_lines(reader_, part + t * shape_.head_dim * kBits / 8, shape_.head_dim / 4, rows,
                         kTileRowBytes, ahead);
    return {rows, part + row_bytes() + 2 * t, 0};
  }
  /// Blocks that fill a tile, so that those of 16 or 32 tokens do not leave it half empty. Where
  /// fewer are left, what stands behind them meets weights of zero.
  std::size_t together() const {
    const std::size_t n = kByteStep / shape_.block_tokens;
    return n > 0 ? n : 1;
  }
  template <int n>
  ByteChannels channels(const KvRun& v, std::size_t b, std::size_t n_blocks, std::size_t tile) {
    const std::size_t n_lines = shape_.block_tokens / 4, n_together = together();
    const std::size_t tile_bytes = n_together * n_lines * kTileRowBytes;
    for (std::size_t i = 0; i < n_together && b + i < n_blocks; ++i) {
      const std::ptrdiff_t ahead = distance_ahead(v, b + i, part_bytes(), kAhead);
      const std::byte* codes = v.parts[b + i] + tile * Reader::tile_v(shape_);
      std::byte* to = unpacked_ + i * n_lines * kTileRowBytes;
      for (int c = 0; c < n; ++c, to += tile_bytes) {
        codes = avx512::unpack_lines(reader_, codes, n_lines, to, kTileRowBytes, ahead);
      }
    }
    return {unpacked_, tile_bytes, kTileRowBytes, 0};
  }

 private:
  const Reader reader_;
  const BlockShape shape_;
  alignas(64) std::byte unpacked_[kKeySlots * kLanes * kMaxHeadDim];
};
static_assert(ByteWeights<1>::kMaxSums * kLanes * kMaxBlockTokens <=
              kKeySlots * kLanes * kMaxHeadDim);

}  // namespace

void run_scores_code_bytes(const CodeBook& book, const float* q, const KvRun& k, BlockShape shape,
                           ScoreTile scores) {
  if (scores.n_q * shape.head_dim <= few_products(book)) {
    return avx512::run_scores_code_bytes(book, q, k, shape, scores);
  }
  by_byte_bits(book.bits, [&](auto n) {
    UnpackedRows<n()> rows(book, shape);
    run_scores(rows, q, k, shape, scores);
  });
}

void run_accumulate_code_bytes(const CodeBook& book, ScoreTile weights, const KvRun& v,
                               BlockShape shape, std::uint32_t n_tokens, float* out) {
  if (weights.n_q * shape.head_dim <= few_products(book)) {
    return avx512::run_accumulate_code_bytes(book, weights, v, shape, n_tokens, out);
  }
  by_byte_bits(book.bits, [&](auto n) {
    UnpackedRows<n()> rows(book, shape);
    run_accumulate(rows, weights, v, shape, n_tokens, out);
  });
}

}  // namespace larder::simd::amx
