// Runs of blocks of codes. Those that stand for bytes: code_bytes.cc; with CodeFit::range:
// codes_run_ranges.cc; what is here is e4m3. Planes are decoded in registers and go to VDPBF16PS
// from there. A lane adds its pairs in the order of kv_bf16.cc, so that the sums are those of
// decoded blocks.
#include "simd/avx512/code_runs.h"
#include "simd/avx512/codes.h"
#include "simd/avx512/planes.h"
#include "simd/unroll.h"

namespace larder::simd::avx512 {
namespace {

using Reader = PlaneReader<8>;

inline __m512 load_scales(const std::byte* scales) {
  return _mm512_maskz_cvtph_ps(kAll, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales)));
}

// kQ queries against kT neighbouring K tiles of codes.
template <int kQ, int kT>
[[gnu::always_inline]] inline void score_tiles(const Reader& reader, const std::uint32_t* q,
                                               const std::byte* codes, std::ptrdiff_t ahead,
                                               std::size_t head_dim, __m512 (&sums)[kQ][kT]) {
  const std::size_t tile_bytes = kLanes * head_dim;
  LARDER_UNROLL
  for (int i = 0; i < kQ; ++i) {
    LARDER_UNROLL
    for (int t = 0; t < kT; ++t) sums[i][t] = _mm512_setzero_ps();
  }
  for (std::size_t pair = 0; pair < head_dim / 2; pair += Reader::kPlanes) {
    __m512i words[kT][Reader::kWords];
    LARDER_UNROLL
    for (int t = 0; t < kT; ++t) {
      load_words(codes + t * tile_bytes, words[t]);
      fetch_words<Reader::kWords>(codes + t * tile_bytes, ahead);
    }
    for_each_of(
        Reader::Indices{}, [&](auto p) __attribute__((always_inline)) {
          __m512bh rows[kT];
          LARDER_UNROLL
          for (int t = 0; t < kT; ++t) rows[t] = as_bf16(reader.plane<p()>(words[t]));
          LARDER_UNROLL
          for (int i = 0; i < kQ; ++i) {
            const __m512bh x = broadcast(q + i * kQueryPairs + p());
            LARDER_UNROLL
            for (int t = 0; t < kT; ++t) sums[i][t] = _mm512_dpbf16_ps(sums[i][t], x, rows[t]);
          }
        });
    codes += Reader::kWords * 64;
    q += Reader::kPlanes;
  }
}

template <int kQ, int kT>
void score_and_scale(const Reader& reader, const std::uint32_t* q, const std::byte* codes,
                     const std::byte* scales, std::ptrdiff_t ahead, std::size_t head_dim,
                     ScoreTile out) {
  __m512 sums[kQ][kT];
  score_tiles<kQ, kT>(reader, q, codes, ahead, head_dim, sums);
  LARDER_UNROLL
  for (int t = 0; t < kT; ++t) {
    const __m512 scale = load_scales(scales + t * 2 * kLanes);
    LARDER_UNROLL
    for (int i = 0; i < kQ; ++i) {
      _mm512_storeu_ps(out.data + i * out.stride + t * kLanes, _mm512_mul_ps(sums[i][t], scale));
    }
  }
}

template <int kQ>
void score_run(const CodeBook& book, const std::uint32_t* q, const KvRun& k, BlockShape shape,
               ScoreTile out) {
  const Reader reader(book);
  const std::size_t n_bytes = code_bytes(book, shape);
  const std::size_t tile_bytes = kLanes * shape.head_dim;
  const std::size_t part_bytes = k_part_bytes(book, shape);
  for (std::size_t b = 0; b < k.n_blocks; ++b) {
    const std::byte* tile = k.parts[b];
    const std::byte* scales = tile + n_bytes;
    const std::ptrdiff_t ahead = distance_ahead(k, b, part_bytes);
    fetch_scales(tile, ahead, n_bytes, part_bytes);
    std::size_t t = 0;
    for (; t + 2 * kLanes <= shape.block_tokens; t += 2 * kLanes, tile += 2 * tile_bytes) {
      score_and_scale<kQ, 2>(reader, q, tile, scales + 2 * t, ahead, shape.head_dim, out);
      out.data += 2 * kLanes;
    }
    if (t < shape.block_tokens) {
      score_and_scale<kQ, 1>(reader, q, tile, scales + 2 * t, ahead, shape.head_dim, out);
      out.data += kLanes;
    }
  }
}

// kQ rows of weights against kC vectors of channels of V from `first` on, all sums in registers
// from the first block to the last.
template <int kQ, int kC>
void add_channels(const CodeBook& book, const std::uint32_t* weights, const KvRun& v,
                  BlockShape shape, std::size_t first, float* out) {
  const Reader reader(book);
  const std::size_t part_bytes = v_part_bytes(book, shape);
  const std::size_t lane_bytes = shape.block_tokens * kLanes;  // of 16 channels
  __m512 sums[kQ][kC];
  LARDER_UNROLL
  for (int i = 0; i < kQ; ++i) {
    LARDER_UNROLL
    for (int c = 0; c < kC; ++c) {
      sums[i][c] = _mm512_loadu_ps(out + i * shape.head_dim + first + c * kLanes);
    }
  }
  for (std::size_t b = 0; b < v.n_blocks; ++b) {
    const std::byte* codes = v.parts[b] + first / kLanes * lane_bytes;
    const std::ptrdiff_t ahead = distance_ahead(v, b, part_bytes);
    for (std::size_t pair = 0; pair < shape.block_tokens / 2; pair += Reader::kPlanes) {
      LARDER_UNROLL
      for (int c = 0; c < kC; ++c) {
        __m512i words[Reader::kWords];
        load_words(codes + c * lane_bytes, words);
        fetch_words<Reader::kWords>(codes + c * lane_bytes, ahead);
        for_each_of(
            Reader::Indices{}, [&](auto p) __attribute__((always_inline)) {
              const __m512bh rows = as_bf16(reader.plane<p()>(words));
              LARDER_UNROLL
              for (int i = 0; i < kQ; ++i) {
                const __m512bh x = broadcast(weights + i * kWeightPairs + p());
                sums[i][c] = _mm512_dpbf16_ps(sums[i][c], x, rows);
              }
            });
      }
      codes += Reader::kWords * 64;
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

template <int kQ>
void add_run(const CodeBook& book, const std::uint32_t* weights, const KvRun& v, BlockShape shape,
             float* out) {
  std::size_t c = 0;
  for (; c + 4 * kLanes <= shape.head_dim; c += 4 * kLanes) {
    add_channels<kQ, 4>(book, weights, v, shape, c, out);
  }
  for (; c < shape.head_dim; c += kLanes) {
    add_channels<kQ, 1>(book, weights, v, shape, c, out);
  }
}

// As pack_pairs, of x * scales.
inline void pack_scaled(const float* x, const float* scales, std::size_t n, std::uint32_t* out) {
  for (std::size_t i = 0; i < n; i += 2 * kLanes) {
    const __mmask16 rest = n - i > kLanes ? kAll : __mmask16{0};
    const __m512 low = _mm512_mul_ps(_mm512_loadu_ps(x + i), _mm512_loadu_ps(scales + i));
    const __m512 high = _mm512_mul_ps(_mm512_maskz_loadu_ps(rest, x + i + kLanes),
                                      _mm512_maskz_loadu_ps(rest, scales + i + kLanes));
    _mm512_storeu_si512(out + i / 2, as_pairs(_mm512_cvtne2ps_pbh(high, low)));
  }
}

using AddRun = void (*)(const CodeBook&, const std::uint32_t*, const KvRun&, BlockShape, float*);
struct Kernels {
  ScoreRun score[kQueries];
  AddRun add[kQueries];
};
constexpr Kernels kKernels = {{score_run<1>, score_run<2>, score_run<3>, score_run<4>},
                              {add_run<1>, add_run<2>, add_run<3>, add_run<4>}};

}  // namespace

void run_scores_codes(const CodeBook& book, const float* q, const KvRun& k, BlockShape shape,
                      ScoreTile scores) {
  if (codes_are_bytes(book)) return run_scores_code_bytes(book, q, k, shape, scores);
  if (book.fit == CodeFit::range) return run_scores_ranges(book, q, k, shape, scores);
  score_packed(kKernels.score, book, q, k, shape, scores);
}

void run_accumulate_codes(const CodeBook& book, ScoreTile weights, const KvRun& v, BlockShape shape,
                          std::uint32_t n_tokens, float* out) {
  if (codes_are_bytes(book)) {
    return run_accumulate_code_bytes(book, weights, v, shape, n_tokens, out);
  }
  if (book.fit == CodeFit::range) {
    return run_accumulate_ranges(book, weights, v, shape, n_tokens, out);
  }
  alignas(64) std::uint32_t packed[kQueries * kWeightPairs];
  alignas(64) float scales[kMaxRunTokens];
  const std::size_t n_bytes = code_bytes(book, shape);
  KvRun left = v;
  const std::size_t chunk_blocks = kMaxRunTokens / shape.block_tokens;
  for (std::size_t n_blocks = n_tokens / shape.block_tokens; n_blocks > 0;) {
    const std::size_t n_now = n_blocks < chunk_blocks ? n_blocks : chunk_blocks;
    const std::size_t n = n_now * shape.block_tokens;
    for (std::size_t t = 0; t < n; t += kLanes) {
      const std::byte* part = left.parts[t / shape.block_tokens] + n_bytes;
      _mm512_store_ps(scales + t, load_scales(part + 2 * (t % shape.block_tokens)));
    }
    const KvRun now{left.parts, n_now, left.n_blocks - n_now + left.n_next};
    for (std::size_t first = 0; first < weights.n_q; first += kQueries) {
      const std::size_t n_q = weights.n_q - first < kQueries ? weights.n_q - first : kQueries;
      for (std::size_t i = 0; i < n_q; ++i) {
        pack_scaled(weights.data + (first + i) * weights.stride, scales, n,
                    packed + i * kWeightPairs);
      }
      kKernels.add[n_q - 1](book, packed, now, shape, out + first * shape.head_dim);
    }
    weights.data += n;
    left.parts += n_now;
    left.n_blocks -= n_now;
    n_blocks -= n_now;
  }
}

}  // namespace larder::simd::avx512
