// Runs of blocks of codes: some blocks at a time become bf16 in the first-level cache and go to the
// kernels of bf16 blocks from there. So sums are those of decoded blocks to the bit.
#include "simd/avx512/codes.h"

#include <algorithm>
#include <cstring>

#include "simd/amx/kv.h"
#include "simd/amx/tiles.h"
#include "simd/avx512/kv.h"
#include "simd/avx512/primitives.h"

namespace larder::simd::amx {
namespace {

constexpr std::size_t kMaxTokens = 128;  // of a block
// Of the blocks that are decoded at a time, if they are more than one.
constexpr std::size_t kNearBytes = std::size_t{16} << 10;
constexpr std::size_t kMaxBlocks = 16;
constexpr std::size_t kMinHeadDim = 16;
constexpr std::size_t kMaxNearTokens = kNearBytes / 2 / kMinHeadDim;
static_assert(kMaxNearTokens >= kMaxTokens);
constexpr std::size_t kDecodedBytes = kMaxTokens * kMaxHeadDim * 2;
static_assert(kDecodedBytes >= kNearBytes);
constexpr std::size_t kBytesAhead = 8192;  // of codes

/// The decoded parts of a few blocks.
class NearBlocks {
 public:
  NearBlocks(BlockShape shape, std::size_t coded_bytes)
      : part_bytes_(std::size_t{shape.block_tokens} * shape.head_dim * 2),
        coded_bytes_(coded_bytes),
        ahead_(std::max<std::size_t>(1, kBytesAhead / coded_bytes)) {}

  /// Of block `first` of the run and the following ones, and how many: `decode(part, to)`.
  template <class F>
  std::size_t decode(const KvRun& run, std::size_t first, F&& decode) {
    const std::size_t n_near = std::clamp<std::size_t>(kNearBytes / part_bytes_, 1, kMaxBlocks);
    const std::size_t n = std::min(n_near, run.n_blocks - first);
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t next = first + i + ahead_;
      if (next < run.n_blocks + run.n_next) avx512::fetch_lines(run.parts[next], coded_bytes_);
      std::byte* const to = decoded_ + i * part_bytes_;
      decode(run.parts[first + i], to);
      parts_[i] = to;
    }
    return n;
  }
  KvRun run(std::size_t n) const { return {parts_, n, 0}; }

 private:
  const std::size_t part_bytes_, coded_bytes_, ahead_;
  const std::byte* parts_[kMaxBlocks];
  alignas(64) std::byte decoded_[kDecodedBytes];
};

bool has_row_scales(const CodeBook& book) { return book.fit != CodeFit::range; }

}  // namespace

void run_scores_codes(const CodeBook& book, const float* q, const KvRun& k, BlockShape shape,
                      ScoreTile scores) {
  const std::size_t n_codes = code_bytes(book, shape);
  NearBlocks near(shape, k_part_bytes(book, shape));
  alignas(64) float scales[kMaxTokens];
  for (std::size_t b = 0; b < k.n_blocks;) {
    const std::size_t n = near.decode(k, b, [&](const std::byte* part, std::byte* to) {
      avx512::decode_codes_k(book, part, shape, to);
    });
    run_scores_bf16(q, near.run(n), shape, scores);
    if (has_row_scales(book)) {
      for (std::size_t i = 0; i < n; ++i) {
        avx512::read_halves(k.parts[b + i] + n_codes, shape.block_tokens, scales);
        for (std::size_t query = 0; query < scores.n_q; ++query) {
          avx512::multiply(scales, scores.data + query * scores.stride + i * shape.block_tokens,
                           shape.block_tokens);
        }
      }
    }
    scores.data += n * shape.block_tokens;
    b += n;
  }
}

void run_accumulate_codes(const CodeBook& book, ScoreTile weights, const KvRun& v, BlockShape shape,
                          std::uint32_t n_tokens, float* out) {
  const std::size_t n_codes = code_bytes(book, shape);
  const KvRun run{v.parts, n_tokens / shape.block_tokens,
                  v.n_blocks - n_tokens / shape.block_tokens + v.n_next};
  NearBlocks near(shape, v_part_bytes(book, shape));
  alignas(64) float scales[kMaxNearTokens], scaled[kTileRows * kMaxNearTokens];
  for (std::size_t b = 0; b < run.n_blocks;) {
    const std::size_t n_blocks = near.decode(run, b, [&](const std::byte* part, std::byte* to) {
      avx512::decode_codes_v(book, part, shape, to);
    });
    const std::size_t n = n_blocks * shape.block_tokens;
    const auto n_near = static_cast<std::uint32_t>(n);
    if (!has_row_scales(book)) {
      run_accumulate_bf16(weights, near.run(n_blocks), shape, n_near, out);
    } else {
      for (std::size_t i = 0; i < n_blocks; ++i) {
        avx512::read_halves(run.parts[b + i] + n_codes, shape.block_tokens,
                            scales + i * shape.block_tokens);
      }
      for (std::size_t first = 0; first < weights.n_q; first += kTileRows) {
        const std::size_t n_q = std::min(kTileRows, weights.n_q - first);
        for (std::size_t i = 0; i < n_q; ++i) {
          float* const row = scaled + i * n;
          std::memcpy(row, weights.data + (first + i) * weights.stride, n * sizeof(float));
          avx512::multiply(scales, row, n);
        }
        run_accumulate_bf16({scaled, n_q, n}, near.run(n_blocks), shape, n_near,
                            out + first * shape.head_dim);
      }
    }
    weights.data += n;
    b += n_blocks;
  }
}

}  // namespace larder::simd::amx
