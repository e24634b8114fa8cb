// Runs of integer parts by VPMADDWD, which multiplies pairs of 16 bits and adds them: a lane is a
// token of K, or a channel of V.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "simd/avx2/integer_rows.h"
#include "simd/integer_rows.h"
#include "simd/unroll.h"

namespace larder::simd::avx2 {
namespace {

constexpr std::size_t kLanes = 16;   // tokens of a K tile, channels at a time of V: two vectors
constexpr std::size_t kQueries = 4;  // whose sums fit in registers beside a plane

inline __m256i load_integers(const std::byte* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}
inline const float* as_floats(const std::byte* from) {
  return reinterpret_cast<const float*>(from);
}

// 32 numbers, 16 of them or all, as integers in their order; returns their unit.
struct Integers {
  __m256i first, second;  // 16 of them each
  float unit;
};
inline Integers to_integers(const __m256 (&x)[4]) {
  const __m256i size = _mm256_set1_epi32(0x7fffffff);
  const auto bits = [&](int i) { return _mm256_and_si256(_mm256_castps_si256(x[i]), size); };
  const __m256i eight =
      _mm256_max_epu32(_mm256_max_epu32(bits(0), bits(1)), _mm256_max_epu32(bits(2), bits(3)));
  const __m128i four =
      _mm_max_epu32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  const __m128i two = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0x4e));
  const float largest =
      _mm_cvtss_f32(_mm_castsi128_ps(_mm_max_epu32(two, _mm_shuffle_epi32(two, 0xb1))));
  const __m256 factor = _mm256_set1_ps(largest >= kLeastLargest ? kTopInteger / largest : 0.0F);
  const auto nearest = [&](int i) { return _mm256_cvtps_epi32(_mm256_mul_ps(x[i], factor)); };
  const auto in_order = [](__m256i low, __m256i high) {  // packing goes lane by lane
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
  };
  return {in_order(nearest(0), nearest(1)), in_order(nearest(2), nearest(3)),
          largest * (1 / kTopInteger)};
}

// Channels 4 j, 4 j + 2, 4 j + 1, 4 j + 3: two dwords of planes.
inline __m256i in_planes(__m256i words) {
  constexpr int kOrder = 0xd8;
  return _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(words, kOrder), kOrder);
}

struct Queries {
  alignas(32) std::int32_t planes[kQueries][kMaxGroups * 16];
  float units[kQueries][kMaxGroups];
};

void pack_queries(const float* q, std::size_t n, std::size_t head_dim, Queries& out) {
  for (std::size_t i = 0; i < n; ++i, q += head_dim) {
    for (std::size_t g = 0; g < head_dim / kGroupChannels; ++g) {
      const float* const at = q + g * kGroupChannels;
      const Integers x = to_integers({_mm256_loadu_ps(at), _mm256_loadu_ps(at + 8),
                                      _mm256_loadu_ps(at + 16), _mm256_loadu_ps(at + 24)});
      auto* const to = reinterpret_cast<__m256i*>(out.planes[i] + g * 16);
      _mm256_store_si256(to, in_planes(x.first));
      _mm256_store_si256(to + 1, in_planes(x.second));
      out.units[i][g] = x.unit;
    }
  }
}

// sums[i] += 16 dwords of integers at each of `n` places, `stride` bytes apart, times x[i].
template <int kQ>
[[gnu::always_inline]] inline void add_products(const std::byte* integers, std::size_t stride,
                                                std::size_t n, const std::int32_t* const (&x)[kQ],
                                                __m256i (&sums)[kQ][2]) {
  for (std::size_t p = 0; p < n; ++p, integers += stride) {
    const __m256i low = load_integers(integers), high = load_integers(integers + 32);
    LARDER_UNROLL
    for (int i = 0; i < kQ; ++i) {
      const __m256i pair = _mm256_set1_epi32(x[i][p]);
      sums[i][0] = _mm256_add_epi32(sums[i][0], _mm256_madd_epi16(low, pair));
      sums[i][1] = _mm256_add_epi32(sums[i][1], _mm256_madd_epi16(high, pair));
    }
  }
}

// Scores of kQ queries against the K tile from row `first` of a part on.
template <int kQ>
void score_tile(const Queries& q, const std::byte* part, std::size_t first, BlockShape shape,
                float* out, std::size_t out_stride) {
  const std::size_t n_groups = shape.head_dim / kGroupChannels;
  for (int i = 0; i < kQ; ++i) {
    _mm256_storeu_ps(out + i * out_stride, _mm256_setzero_ps());
    _mm256_storeu_ps(out + i * out_stride + 8, _mm256_setzero_ps());
  }
  for (std::size_t g = 0; g < n_groups; ++g) {
    const std::byte* const planes = part + (first * n_groups + g * kLanes) * 64;
    const float* const scales =
        as_floats(part + integer_bytes(shape)) + g * shape.block_tokens + first;
    __m256i sums[kQ][2];
    const std::int32_t* x[kQ];
    LARDER_UNROLL
    for (int i = 0; i < kQ; ++i) {
      sums[i][0] = sums[i][1] = _mm256_setzero_si256();
      x[i] = q.planes[i] + g * 16;
    }
    add_products<kQ>(planes, 64, 16, x, sums);
    LARDER_UNROLL
    for (int h = 0; h < 2; ++h) {
      const __m256 scale = _mm256_loadu_ps(scales + 8 * h);
      LARDER_UNROLL
      for (int i = 0; i < kQ; ++i) {
        float* const to = out + i * out_stride + 8 * h;
        const __m256 unit = _mm256_mul_ps(scale, _mm256_set1_ps(q.units[i][g]));
        const __m256 sum = _mm256_cvtepi32_ps(sums[i][h]);
        _mm256_storeu_ps(to, _mm256_fmadd_ps(sum, unit, _mm256_loadu_ps(to)));
      }
    }
  }
}

template <int kQ>
void score_run(const Queries& q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  for (std::size_t b = 0; b < k.n_blocks; ++b) {
    for (std::size_t t = 0; t < shape.block_tokens; t += kLanes, scores.data += kLanes) {
      score_tile<kQ>(q, k.parts[b], t, shape, scores.data, scores.stride);
    }
  }
}

// Rows [first, first + n_rows) of a part, 32 of them or 16, with the weights of kQ queries.
struct Stretch {
  const std::byte* part;
  std::size_t first, n_rows;
  const float* weights;
  std::size_t stride;
};

template <int kQ>
void add_stretch(const Stretch& of, BlockShape shape, float* sums) {
  const float* const scales = as_floats(of.part + integer_bytes(shape)) + of.first;
  const std::byte* rows = of.part + of.first * shape.head_dim * 2;
  for (std::size_t c = 0; c < shape.head_dim; c += kGroupChannels) {
    alignas(32) std::int32_t pairs[kQ][16];
    const std::int32_t* x[kQ];
    float units[kQ];
    const float* const of_group = scales + c / kGroupChannels * shape.block_tokens;
    for (int i = 0; i < kQ; ++i) {
      __m256 scaled[4];
      for (std::size_t v = 0; v < 4; ++v) {
        scaled[v] = 8 * v < of.n_rows
                        ? _mm256_mul_ps(_mm256_loadu_ps(of.weights + i * of.stride + 8 * v),
                                        _mm256_loadu_ps(of_group + 8 * v))
                        : _mm256_setzero_ps();
      }
      const Integers w = to_integers(scaled);
      _mm256_store_si256(reinterpret_cast<__m256i*>(pairs[i]), w.first);
      _mm256_store_si256(reinterpret_cast<__m256i*>(pairs[i] + 8), w.second);
      x[i] = pairs[i];
      units[i] = w.unit;
    }
    for (std::size_t half = 0; half < kGroupChannels; half += kLanes, rows += kLanes * 4) {
      __m256i products[kQ][2];
      LARDER_UNROLL
      for (int i = 0; i < kQ; ++i) products[i][0] = products[i][1] = _mm256_setzero_si256();
      add_products<kQ>(rows, std::size_t{shape.head_dim} * 4, of.n_rows / 2, x, products);
      LARDER_UNROLL
      for (int i = 0; i < kQ; ++i) {
        const __m256 unit = _mm256_set1_ps(units[i]);
        LARDER_UNROLL
        for (int v = 0; v < 2; ++v) {
          float* const to = sums + i * kMaxHeadDim + c + half + 8 * v;
          const __m256 product = _mm256_cvtepi32_ps(products[i][v]);
          _mm256_storeu_ps(to, _mm256_fmadd_ps(product, unit, _mm256_loadu_ps(to)));
        }
      }
    }
  }
}

template <int kQ>
void add_run(const ScoreTile& weights, const KvRun& v, std::size_t n_blocks, BlockShape shape,
             float* out) {
  alignas(32) float sums[kQ * kMaxHeadDim];
  const std::size_t n = shape.block_tokens;
  for (std::size_t i = 0; i < kQ; ++i) {
    for (std::size_t c = 0; c < shape.head_dim; ++c) sums[i * kMaxHeadDim + c] = 0;
  }
  for (std::size_t b = 0; b < n_blocks; ++b) {
    for (std::size_t t = 0; t < n; t += kStretchTokens) {
      const std::size_t n_rows = n - t < kStretchTokens ? n - t : kStretchTokens;
      add_stretch<kQ>({v.parts[b], t, n_rows, weights.data + b * n + t, weights.stride}, shape,
                      sums);
    }
  }
  for (std::size_t i = 0; i < kQ; ++i) {
    float* const to = out + i * shape.head_dim;
    for (std::size_t c = 0; c < shape.head_dim; ++c) to[c] += sums[i * kMaxHeadDim + c];
  }
}

constexpr void (*kScoreRuns[kQueries])(const Queries&, const KvRun&, BlockShape, ScoreTile) = {
    score_run<1>, score_run<2>, score_run<3>, score_run<4>};
constexpr void (*kAddRuns[kQueries])(const ScoreTile&, const KvRun&, std::size_t, BlockShape,
                                     float*) = {add_run<1>, add_run<2>, add_run<3>, add_run<4>};

}  // namespace

void run_scores_integers(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  Queries packed;
  while (scores.n_q > 0) {
    const std::size_t n = scores.n_q < kQueries ? scores.n_q : kQueries;
    pack_queries(q, n, shape.head_dim, packed);
    kScoreRuns[n - 1](packed, k, shape, {scores.data, n, scores.stride});
    q += n * shape.head_dim;
    scores.data += n * scores.stride;
    scores.n_q -= n;
  }
}

void run_accumulate_integers(ScoreTile weights, const KvRun& v, BlockShape shape,
                             std::uint32_t n_tokens, float* out) {
  while (weights.n_q > 0) {
    const std::size_t n = weights.n_q < kQueries ? weights.n_q : kQueries;
    kAddRuns[n - 1](weights, v, n_tokens / shape.block_tokens, shape, out);
    out += n * shape.head_dim;
    weights.data += n * weights.stride;
    weights.n_q -= n;
  }
}

}  // namespace larder::simd::avx2
