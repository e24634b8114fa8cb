// Runs of blocks of codes with scales and zeros of channels (K) or rows (V): elements are looked
// up, rounded to bf16, in tables made for each pair of them, of 8 bits computed. Sums have the
// order of kv_bf16.cc.
#include "simd/avx512/code_runs.h"
#include "simd/avx512/codes.h"
#include "simd/avx512/range_planes.h"
#include "simd/by_number.h"
#include "simd/unroll.h"

namespace larder::simd::avx512 {
namespace {

// What the kernels read of a block: neighbouring K tiles, or V.
struct Codes {
  const std::byte* data;
  std::ptrdiff_t ahead;
  const float *scales, *zeros;  // of channels, or of rows
};

// kQ queries against kT neighbouring K tiles.
template <int kBits, int kQ, int kT>
void score_tiles(const RangeReader<kBits>& reader, const std::uint32_t* q, Codes k,
                 std::size_t head_dim, ScoreTile out) {
  using Reader = RangeReader<kBits>;
  const std::size_t tile_bytes = kLanes * head_dim * kBits / 8;
  __m512 sums[kQ][kT];
  LARDER_UNROLL
  for (int i = 0; i < kQ; ++i) {
    LARDER_UNROLL
    for (int t = 0; t < kT; ++t) sums[i][t] = _mm512_setzero_ps();
  }
  for (std::size_t pair = 0; pair < head_dim / 2; pair += Reader::kPlanes) {
    __m512i words[kT][1];
    LARDER_UNROLL
    for (int t = 0; t < kT; ++t) {
      load_words(k.data + t * tile_bytes, words[t]);
      fetch_words<1>(k.data + t * tile_bytes, k.ahead);
    }
    for_each_of(
        typename Reader::Indices{}, [&](auto p) __attribute__((always_inline)) {
          const std::size_t channel = 2 * (pair + p());
          const typename Reader::Table table = reader.table(k.scales + channel, k.zeros + channel);
          __m512bh rows[kT];
          LARDER_UNROLL
          for (int t = 0; t < kT; ++t) {
            rows[t] = as_bf16(Reader::template plane<p()>(words[t][0], table));
          }
          LARDER_UNROLL
          for (int i = 0; i < kQ; ++i) {
            const __m512bh x = broadcast(q + i * kQueryPairs + p());
            LARDER_UNROLL
            for (int t = 0; t < kT; ++t) sums[i][t] = _mm512_dpbf16_ps(sums[i][t], x, rows[t]);
          }
        });
    k.data += 64;
    q += Reader::kPlanes;
  }
  LARDER_UNROLL
  for (int i = 0; i < kQ; ++i) {
    LARDER_UNROLL
    for (int t = 0; t < kT; ++t) {
      _mm512_storeu_ps(out.data + i * out.stride + t * kLanes, sums[i][t]);
    }
  }
}

template <int kBits, int kQ>
void score_run(const CodeBook& book, const std::uint32_t* q, const KvRun& k, BlockShape shape,
               ScoreTile out) {
  const RangeReader<kBits> reader(book);
  const std::size_t d = shape.head_dim, n_bytes = code_bytes(book, shape);
  const std::size_t tile_bytes = kLanes * d * kBits / 8;
  const std::size_t part_bytes = k_part_bytes(book, shape);
  alignas(64) float scales[kMaxHeadDim], zeros[kMaxHeadDim];
  for (std::size_t b = 0; b < k.n_blocks; ++b) {
    const std::byte* const part = k.parts[b];
    read_halves(part + n_bytes, d, scales);
    read_halves(part + n_bytes + 2 * d, d, zeros);
    Codes tiles{part, distance_ahead(k, b, part_bytes), scales, zeros};
    fetch_scales(part, tiles.ahead, n_bytes, part_bytes);
    std::size_t t = 0;
    for (; t + 2 * kLanes <= shape.block_tokens; t += 2 * kLanes, tiles.data += 2 * tile_bytes) {
      score_tiles<kBits, kQ, 2>(reader, q, tiles, d, out);
      out.data += 2 * kLanes;
    }
    if (t < shape.block_tokens) {
      score_tiles<kBits, kQ, 1>(reader, q, tiles, d, out);
      out.data += kLanes;
    }
  }
}

// V of a run with the scales and zeros of its rows.
struct Values {
  const KvRun& run;
  const float *scales, *zeros;
};

// kQ rows of weights against kC vectors of channels of V from `first` on, all sums in registers
// from the first block to the last.
template <int kBits, int kQ, int kC>
void add_channels(const CodeBook& book, const std::uint32_t* weights, const Values& v,
                  BlockShape shape, std::size_t first, float* out) {
  using Reader = RangeReader<kBits>;
  const Reader reader(book);
  const std::size_t part_bytes = v_part_bytes(book, shape);
  const std::size_t lane_bytes = shape.block_tokens * kLanes * kBits / 8;  // of 16 channels
  __m512 sums[kQ][kC];
  LARDER_UNROLL
  for (int i = 0; i < kQ; ++i) {
    LARDER_UNROLL
    for (int c = 0; c < kC; ++c) {
      sums[i][c] = _mm512_loadu_ps(out + i * shape.head_dim + first + c * kLanes);
    }
  }
  for (std::size_t b = 0; b < v.run.n_blocks; ++b) {
    Codes rows{v.run.parts[b] + first / kLanes * lane_bytes, distance_ahead(v.run, b, part_bytes),
               v.scales + b * shape.block_tokens, v.zeros + b * shape.block_tokens};
    for (std::size_t pair = 0; pair < shape.block_tokens / 2; pair += Reader::kPlanes) {
      typename Reader::Table tables[Reader::kPlanes];
      for_each_of(
          typename Reader::Indices{}, [&](auto p) __attribute__((always_inline)) {
            const std::size_t row = 2 * (pair + p());
            tables[p()] = reader.table(rows.scales + row, rows.zeros + row);
          });
      LARDER_UNROLL
      for (int c = 0; c < kC; ++c) {
        __m512i words[1];
        load_words(rows.data + c * lane_bytes, words);
        fetch_words<1>(rows.data + c * lane_bytes, rows.ahead);
        for_each_of(
            typename Reader::Indices{}, [&](auto p) __attribute__((always_inline)) {
              const __m512bh elements = as_bf16(Reader::template plane<p()>(words[0], tables[p()]));
              LARDER_UNROLL
              for (int i = 0; i < kQ; ++i) {
                const __m512bh x = broadcast(weights + i * kWeightPairs + p());
                sums[i][c] = _mm512_dpbf16_ps(sums[i][c], x, elements);
              }
            });
      }
      rows.data += 64;
      weights += Reader::kPlanes;
    }
  }
  LARDER_UNROLL
  for (int i = 0; i < kQ; ++i) {
    LARDER_UNROLL
    for (int c = 0; c < kC; ++c) {
      _mm512_storeu_ps(out + i * shape.head_dim + first + c * kLanes, sums[i][c]);
    }
  }
}

template <int kBits, int kQ>
void add_run(const CodeBook& book, const std::uint32_t* weights, const Values& v, BlockShape shape,
             float* out) {
  std::size_t c = 0;
  for (; c + 4 * kLanes <= shape.head_dim; c += 4 * kLanes) {
    add_channels<kBits, kQ, 4>(book, weights, v, shape, c, out);
  }
  for (; c < shape.head_dim; c += kLanes) {
    add_channels<kBits, kQ, 1>(book, weights, v, shape, c, out);
  }
}

using AddRun = void (*)(const CodeBook&, const std::uint32_t*, const Values&, BlockShape, float*);
struct Kernels {
  ScoreRun score[kQueries];
  AddRun add[kQueries];
};
template <int kBits>
constexpr Kernels kKernels = {
    {score_run<kBits, 1>, score_run<kBits, 2>, score_run<kBits, 3>, score_run<kBits, 4>},
    {add_run<kBits, 1>, add_run<kBits, 2>, add_run<kBits, 3>, add_run<kBits, 4>}};

const Kernels& kernels(std::uint32_t bits) {
  return by_range_bits(bits, [](auto n) -> const Kernels& { return kKernels<n()>; });
}

}  // namespace

void run_scores_ranges(const CodeBook& book, const float* q, const KvRun& k, BlockShape shape,
                       ScoreTile scores) {
  score_packed(kernels(book.bits).score, book, q, k, shape, scores);
}

void run_accumulate_ranges(const CodeBook& book, ScoreTile weights, const KvRun& v,
                           BlockShape shape, std::uint32_t n_tokens, float* out) {
  alignas(64) std::uint32_t packed[kQueries * kWeightPairs];
  alignas(64) float scales[kMaxRunTokens], zeros[kMaxRunTokens];
  const Kernels& run = kernels(book.bits);
  const std::size_t n_bytes = code_bytes(book, shape), block_tokens = shape.block_tokens;
  KvRun left = v;
  const std::size_t chunk_blocks = kMaxRunTokens / block_tokens;
  for (std::size_t n_blocks = n_tokens / block_tokens; n_blocks > 0;) {
    const std::size_t n_now = n_blocks < chunk_blocks ? n_blocks : chunk_blocks;
    const std::size_t n = n_now * block_tokens;
    for (std::size_t b = 0; b < n_now; ++b) {
      const std::byte* const halves = left.parts[b] + n_bytes;
      read_halves(halves, block_tokens, scales + b * block_tokens);
      read_halves(halves + 2 * block_tokens, block_tokens, zeros + b * block_tokens);
    }
    const KvRun now{left.parts, n_now, left.n_blocks - n_now + left.n_next};
    for (std::size_t first = 0; first < weights.n_q; first += kQueries) {
      const std::size_t n_q = weights.n_q - first < kQueries ? weights.n_q - first : kQueries;
      for (std::size_t i = 0; i < n_q; ++i) {
        pack_pairs(weights.data + (first + i) * weights.stride, n, packed + i * kWeightPairs);
      }
      run.add[n_q - 1](book, packed, {now, scales, zeros}, shape, out + first * shape.head_dim);
    }
    weights.data += n;
    left.parts += n_now;
    left.n_blocks -= n_now;
    n_blocks -= n_now;
  }
}

}  // namespace larder::simd::avx512
