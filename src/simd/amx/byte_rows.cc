// Runs of byte parts, straight from where they stand.
#include "simd/avx512/byte_rows.h"

#include "simd/amx/byte_kernels.h"
#include "simd/amx/kv.h"

namespace larder::simd::amx {
namespace {

/// Up to so many queries times channels vectors have so little to do that memory is what they wait
/// for, and they wait less than tiles do, whose loads hold up what is behind them. The same bits.
constexpr std::size_t kFewProducts = 256;

struct StoredRows {
  static constexpr std::size_t kAhead = 13000;
  BlockShape shape;

  std::size_t row_bytes() const { return bytes_of_rows(shape); }
  std::size_t part_bytes() const { return byte_part_bytes(shape); }

  ByteKeys keys(const std::byte* part, std::size_t t, std::ptrdiff_t ahead, std::size_t) const {
    return {part + t * shape.head_dim, part + row_bytes() + 2 * t, ahead};
  }
  static std::size_t together() { return 1; }
  template <int n>
  ByteChannels channels(const KvRun& v, std::size_t b, std::size_t, std::size_t tile) const {
    return {v.parts[b] + tile * kTileRowBytes, kTileRowBytes, std::size_t{shape.head_dim} * 4,
            distance_ahead(v, b, part_bytes(), kAhead)};
  }
};

}  // namespace

void run_scores_bytes(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  if (scores.n_q * shape.head_dim <= kFewProducts) {
    return avx512::run_scores_bytes(q, k, shape, scores);
  }
  const StoredRows rows{shape};
  run_scores(rows, q, k, shape, scores);
}

void run_accumulate_bytes(ScoreTile weights, const KvRun& v, BlockShape shape,
                          std::uint32_t n_tokens, float* out) {
  if (weights.n_q * shape.head_dim <= kFewProducts) {
    return avx512::run_accumulate_bytes(weights, v, shape, n_tokens, out);
  }
  const StoredRows rows{shape};
  run_accumulate(rows, weights, v, shape, n_tokens, out);
}

}  // namespace larder::simd::amx
