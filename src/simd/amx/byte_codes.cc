// Runs of blocks whose codes are 8-bit integers, times integers: arithmetic and byte parts in
// simd/byte_rows.h. Few queries read the codes, of which a block at a time becomes bytes in the
// first-level cache; many read byte parts.
#include "simd/amx/byte_tiles.h"
#include "simd/amx/kv.h"
#include "simd/avx512/codes.h"
#include "simd/run_distance.h"

namespace larder::simd::amx {
namespace {

/// 64 codes, four of each of 16 tokens (K) or channels (V), as bytes with a sign, these fours side
/// by side.
[[gnu::always_inline]] inline __m512i to_bytes(const std::byte* codes) {
  const __m512i fours =
      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15));
  const __m512i x = _mm512_shuffle_epi8(_mm512_loadu_si512(codes), fours);
  // 128 + magnitude becomes -magnitude.
  return _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(x), _mm512_set1_epi8(-128), x);
}

constexpr std::size_t kBytesAhead = 13000;

/// n_lines lines of codes; asks for those `ahead` of them as it goes. They go `stride` bytes apart.
[[gnu::always_inline]] inline void unpack_lines(const std::byte* codes, std::size_t n_lines,
                                                std::ptrdiff_t ahead, std::byte* to,
                                                std::size_t stride) {
#pragma GCC unroll 4
  for (std::size_t i = 0; i < n_lines; ++i) {
    _mm512_storeu_si512(to + i * stride, to_bytes(codes + i * 64));
    fetch_second_level(codes + i * 64, ahead, 1);
  }
}

void unpack_v(const std::byte* part, BlockShape shape, std::ptrdiff_t ahead, std::byte* to) {
  const std::size_t n_lines = shape.block_tokens / 4;
  for (std::size_t c = 0; c < shape.head_dim / kLanes; ++c) {
    unpack_lines(part + c * n_lines * 64, n_lines, ahead, to + c * 64,
                 std::size_t{shape.head_dim} * 4);
  }
}

/// `f(queries or weights at a time, the first of them)`.
template <class F>
void for_each_some(std::size_t n, std::size_t most, F&& f) {
  for (std::size_t first = 0; first < n; first += most) {
    f(n - first < most ? n - first : most, first);
  }
}

using FewQueries = ByteQueries<1>;
using FewWeights = ByteWeights<1>;
using ManyQueries = ByteQueries<2>;
using ManyWeights = ByteWeights<2>;

constexpr std::size_t kMaxBytes = kMaxBlockTokens * kMaxHeadDim;
constexpr std::size_t kMaxTiles = kMaxHeadDim / kLanes;

/// Tokens whose weights are rounded together.
std::size_t chunk_tokens(BlockShape shape) {
  return kByteRun / shape.block_tokens * shape.block_tokens;
}

/// V of some blocks, at most kByteRun tokens, is unpacked in pieces of at least a step if there are
/// as many blocks.
struct Pieces {
  std::size_t n_blocks;  // of a piece
  std::size_t n_tokens;

  explicit Pieces(std::size_t block_tokens)
      : n_blocks(block_tokens < kByteStep ? kByteStep / block_tokens : 1),
        n_tokens(n_blocks * block_tokens) {}
};

/// Blocks of one chunk, and their rounded weights.
void accumulate_few(const CodeBook& book, const FewWeights& weights, const KvRun& v,
                    std::size_t n_blocks, BlockShape shape, float* out) {
  // A piece, and what is read of a last step behind it.
  alignas(64) std::byte bytes[2][kMaxBytes];
  alignas(64) std::int32_t sums[kMaxTiles * FewWeights::kSumsOfTile];
  const std::size_t n_bytes = v_part_bytes(book, shape),
                    row_bytes = std::size_t{shape.head_dim} * 4;
  const std::size_t n_tiles = shape.head_dim / kLanes;
  const Pieces pieces(shape.block_tokens);
  // A piece is multiplied while the next one is unpacked.
  const auto for_each_piece = [&](auto&& f) {
    std::size_t last = 0, at = 0;  // tokens of the piece before, where its weights are
    const std::byte* last_bytes = nullptr;
    for (std::size_t b = 0, p = 0; b < n_blocks; ++p) {
      std::byte* const to = bytes[p % 2];
      std::size_t n = 0;
      for (; n < pieces.n_tokens && b < n_blocks; ++b, n += shape.block_tokens) {
        unpack_v(v.parts[b], shape, distance_ahead(v, b, n_bytes, kBytesAhead),
                 to + n * shape.head_dim);
      }
      if (last > 0) f(last_bytes, at, last);
      at += whole_steps(last);
      last = n;
      last_bytes = to;
    }
    f(last_bytes, at, last);
  };
  if (n_tiles <= FewWeights::kMaxSums) {  // sums stay in the tiles
    for_each_pass<FewWeights::kMaxSums>(n_tiles, [&](auto n_now, std::size_t) {
      weights.begin<n_now()>();
      for_each_piece([&](const std::byte* piece, std::size_t at, std::size_t n) {
        weights.add<n_now()>(at, n, piece, row_bytes);
      });
      weights.store<n_now()>(sums);
    });
  } else {
    std::memset(sums, 0, n_tiles * FewWeights::kSumsOfTile * sizeof(std::int32_t));
    for_each_piece([&](const std::byte* piece, std::size_t at, std::size_t n) {
      for_each_pass<FewWeights::kMaxSums>(n_tiles, [&](auto n_now, std::size_t first) {
        std::int32_t* const some = sums + first * FewWeights::kSumsOfTile;
        weights.load<n_now()>(some);
        weights.add<n_now()>(at, n, piece + first * 64, row_bytes);
        weights.store<n_now()>(some);
      });
    });
  }
  weights.add_sums(sums, n_tiles, out, shape.head_dim);
}

/// kT: K tiles that are unpacked at once. While that is done, those before are multiplied, and the
/// sums of these before them scaled.
template <int kT>
void score_few(const CodeBook& book, const FewQueries& queries, const KvRun& k, BlockShape shape,
               ScoreTile scores) {
  constexpr std::size_t kTokens = kT * kLanes;
  alignas(64) std::byte bytes[2][kTokens * kMaxHeadDim];
  alignas(64) float scales[4][kTokens];
  alignas(64) std::int32_t sums[2][kT * FewQueries::kSumsOfTile];
  const std::size_t n_codes = code_bytes(book, shape), n_bytes = k_part_bytes(book, shape);
  const std::size_t n_of_block = shape.block_tokens / kTokens, n = k.n_blocks * n_of_block;
  const std::size_t n_lines = kTokens * shape.head_dim / 64;
  const std::byte* part = nullptr;
  std::ptrdiff_t ahead = 0;
  std::size_t in_block = 0;
  for (std::size_t i = 0, b = 0; i < n + 2; ++i) {
    if (i < n) {
      if (in_block == 0) {
        part = k.parts[b];
        ahead = distance_ahead(k, b++, n_bytes, kBytesAhead);
        fetch_second_level(part + n_codes, ahead, (n_bytes - n_codes + 63) / 64);
      }
      unpack_lines(part + in_block * n_lines * 64, n_lines, ahead, bytes[i % 2], 64);
      avx512::read_halves(part + n_codes + in_block * kTokens * 2, kTokens, scales[i % 4]);
      if (++in_block == n_of_block) in_block = 0;
    }
    if (i >= 1 && i <= n) queries.multiply<kT>(bytes[(i - 1) % 2], sums[(i - 1) % 2]);
    if (i >= 2) {
      queries.scale<kT>(sums[i % 2], scales[(i - 2) % 4], scores.data, scores.stride);
      scores.data += kTokens;
    }
  }
}

}  // namespace

void run_scores_byte_codes(const CodeBook& book, const float* q, const KvRun& k, BlockShape shape,
                           ScoreTile scores) {
  for_each_some(scores.n_q, FewQueries::kMaxRows, [&](std::size_t n_q, std::size_t first) {
    const FewQueries queries(q + first * shape.head_dim, n_q, shape.head_dim);
    const ScoreTile some{scores.data + first * scores.stride, n_q, scores.stride};
    if (shape.block_tokens % (2 * kLanes) == 0) {
      score_few<2>(book, queries, k, shape, some);
    } else {
      score_few<1>(book, queries, k, shape, some);
    }
  });
}

void run_accumulate_byte_codes(const CodeBook& book, ScoreTile weights, const KvRun& v,
                               BlockShape shape, std::uint32_t n_tokens, float* out) {
  alignas(64) float scales[kByteRun];
  const std::size_t n_codes = code_bytes(book, shape);
  const std::size_t n_blocks = n_tokens / shape.block_tokens;
  for_each_some(weights.n_q, FewWeights::kMaxRows, [&](std::size_t n_q, std::size_t first_q) {
    FewWeights some(n_q);
    for_each_some(n_blocks, chunk_tokens(shape) / shape.block_tokens,
                  [&](std::size_t n, std::size_t first) {
                    const std::size_t n_of_chunk = n * shape.block_tokens;
                    for (std::size_t b = 0; b < n; ++b) {
                      avx512::read_halves(v.parts[first + b] + n_codes, shape.block_tokens,
                                          scales + b * shape.block_tokens);
                    }
                    const std::size_t at = first_q * weights.stride + first * shape.block_tokens;
                    some.round({weights.data + at, n_q, weights.stride}, scales, n_of_chunk,
                               Pieces(shape.block_tokens).n_tokens);
                    accumulate_few(book, some, {v.parts + first, v.n_blocks - first, v.n_next}, n,
                                   shape, out + first_q * shape.head_dim);
                  });
  });
}

void unpack_bytes_k(const std::byte* part, BlockShape shape, std::byte* bytes) {
  unpack_lines(part, std::size_t{shape.block_tokens} * shape.head_dim / 64, 0, bytes, 64);
}

void unpack_bytes_v(const std::byte* part, BlockShape shape, std::byte* bytes) {
  unpack_v(part, shape, 0, bytes);
}

void run_scores_bytes(const float* q, const ByteRows& k, BlockShape shape, ScoreTile scores) {
  alignas(64) std::int32_t sums[ManyQueries::kMaxKeys * ManyQueries::kSumsOfTile];
  const std::size_t head_dim = shape.head_dim;
  for_each_some(scores.n_q, ManyQueries::kMaxRows, [&](std::size_t n_q, std::size_t first) {
    const ManyQueries queries(q + first * head_dim, n_q, head_dim);
    float* const out = scores.data + first * scores.stride;
    for_each_pass<ManyQueries::kMaxKeys>(k.n_rows / kLanes, [&](auto n_now, std::size_t tile) {
      queries.multiply<n_now()>(k.bytes + tile * kLanes * head_dim, sums);
      queries.scale<n_now()>(sums, k.scales + tile * kLanes, out + tile * kLanes, scores.stride);
    });
  });
}

void run_accumulate_bytes(ScoreTile weights, const ByteRows& v, BlockShape shape, float* out) {
  const std::size_t head_dim = shape.head_dim, chunk = chunk_tokens(shape);
  alignas(64) std::int32_t sums[ManyWeights::kMaxSums * ManyWeights::kSumsOfTile];
  for_each_some(weights.n_q, ManyWeights::kMaxRows, [&](std::size_t n_q, std::size_t first_q) {
    ManyWeights some(n_q);
    for_each_some(v.n_rows, chunk, [&](std::size_t n, std::size_t first) {
      some.round({weights.data + first_q * weights.stride + first, n_q, weights.stride},
                 v.scales + first, n, n);
      const std::byte* const rows = v.bytes + first * head_dim;
      for_each_pass<ManyWeights::kMaxSums>(head_dim / kLanes, [&](auto n_now, std::size_t tile) {
        some.begin<n_now()>();
        some.add<n_now()>(0, n, rows + tile * 64, head_dim * 4);
        some.store<n_now()>(sums);
        some.add_sums(sums, n_now(), out + first_q * head_dim + tile * kLanes, head_dim);
      });
    });
  });
}

}  // namespace larder::simd::amx
