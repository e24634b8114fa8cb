// Scores against runs of integers by VPDPWSSD: a lane is a token, an instruction two channels of
// it, and a group's sum is scaled when it is whole.
#include "simd/avx512/integer_rows.h"
#include "simd/avx512/integer_runs.h"

namespace larder::simd::avx512 {
namespace {

constexpr std::size_t kMostQueries = 6;
// A query's planes begin this many dwords after those of the one before: no power of two, so that
// queries do not compete for cache sets.
constexpr std::size_t kQueryPlanes = kMaxGroups * 16 + kLanes;

/// Queries as integers, in the order of the planes.
struct Queries {
  alignas(64) std::uint32_t planes[kMostQueries][kQueryPlanes];
  float units[kMostQueries][kMaxGroups];
  std::int32_t starts[kMostQueries][kMaxGroups];  // of sums: minus what the planes' bias adds
};

// Dword 2 j + e of planes: channels 4 j + e and 4 j + e + 2.
inline __m512i in_planes(__m512i low, __m512i high) {
  const __m512i even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
  const __m512i odd = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
  const __m512i first = _mm512_permutex2var_epi64(low, even, high);
  const __m512i second = _mm512_permutex2var_epi64(low, odd, high);
  return _mm512_mask_blend_epi16(0xaaaaaaaa, first, _mm512_slli_epi32(second, 16));
}

template <class Source>
void pack_queries(const float* q, std::size_t n, std::size_t head_dim, Queries& out) {
  // The planes' biases, by dwords: those of plane p for both of its channels.
  const __m512i bias =
      _mm512_set1_epi64(static_cast<std::int64_t>(Source::bias(1)) << 32 | Source::bias(0));
  const __m512i both = _mm512_or_si512(bias, _mm512_slli_epi32(bias, 16));
  for (std::size_t i = 0; i < n; ++i, q += head_dim) {
    for (std::size_t g = 0; g < head_dim / kGroupChannels; ++g) {
      const __m512 low = _mm512_loadu_ps(q + g * kGroupChannels);
      const __m512 high = _mm512_loadu_ps(q + g * kGroupChannels + kLanes);
      const float largest = largest_of(_mm512_max_epu32(size_bits(low), size_bits(high)));
      const __m512 factor = _mm512_set1_ps(factor_of(largest));
      const __m512i planes =
          in_planes(nearest(_mm512_mul_ps(low, factor)), nearest(_mm512_mul_ps(high, factor)));
      _mm512_storeu_si512(out.planes[i] + g * 16, planes);
      out.units[i][g] = unit_of(largest);
      out.starts[i][g] =
          -_mm512_reduce_add_epi32(_mm512_dpwssd_epi32(_mm512_setzero_si512(), planes, both));
    }
  }
}

// kQ queries against kT neighbouring K tiles from row t of the stretch on.
template <class Source, int kQ, int kT>
[[gnu::always_inline]] inline void score_tiles(const Queries& q, const Stretch& stretch,
                                               std::size_t t, const typename Source::Scales& scales,
                                               BlockShape shape, float* out, std::size_t stride) {
  __m512 totals[kQ][kT];
  LARDER_UNROLL
  for (int i = 0; i < kQ; ++i) {
    LARDER_UNROLL
    for (int j = 0; j < kT; ++j) totals[i][j] = _mm512_setzero_ps();
  }
  for (std::size_t g = 0; g < shape.head_dim / kGroupChannels; ++g) {
    __m512i sums[kQ][2];  // of the two tiles, or of the even and the odd planes of one
    LARDER_UNROLL
    for (int i = 0; i < kQ; ++i) {
      sums[i][0] = _mm512_set1_epi32(q.starts[i][g]);
      sums[i][1] = kT == 2 ? sums[i][0] : _mm512_setzero_si512();
    }
    Source::template for_each_plane<kT>(
        stretch, t, g,
        shape, [&](auto p, const __m512i(&planes)[kT]) __attribute__((always_inline)) {
          LARDER_UNROLL
          for (int i = 0; i < kQ; ++i) {
            const __m512i x = _mm512_set1_epi32(static_cast<int>(q.planes[i][g * 16 + p()]));
            LARDER_UNROLL
            for (int j = 0; j < kT; ++j) {
              __m512i& sum = sums[i][kT == 2 ? j : p() % 2];
              sum = _mm512_dpwssd_epi32(sum, planes[j], x);
            }
          }
        });
    LARDER_UNROLL
    for (int j = 0; j < kT; ++j) {
      const __m512 scale = scales.load(g, t + j * kLanes);
      LARDER_UNROLL
      for (int i = 0; i < kQ; ++i) {
        const __m512i sum = kT == 2 ? sums[i][j] : _mm512_add_epi32(sums[i][0], sums[i][1]);
        const __m512 unit = _mm512_mul_ps(scale, _mm512_set1_ps(q.units[i][g]));
        totals[i][j] = _mm512_fmadd_ps(_mm512_maskz_cvtepi32_ps(kAll, sum), unit, totals[i][j]);
      }
    }
  }
  LARDER_UNROLL
  for (int i = 0; i < kQ; ++i) {
    LARDER_UNROLL
    for (int j = 0; j < kT; ++j) _mm512_storeu_ps(out + i * stride + j * kLanes, totals[i][j]);
  }
}

template <class Source, int kQ>
void score_run(const Queries& q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  for_each_stretch<Source>(
      k, k.n_blocks, shape, [&](const Stretch& stretch, const typename Source::Scales& scales) {
        constexpr int kT = static_cast<int>(Source::kTiles);
        float* const out = scores.data + stretch.token;
        std::size_t t = 0;
        for (; t + kT * kLanes <= stretch.n_rows; t += kT * kLanes) {
          score_tiles<Source, kQ, kT>(q, stretch, t, scales, shape, out + t, scores.stride);
        }
        if (t < stretch.n_rows) {
          score_tiles<Source, kQ, 1>(q, stretch, t, scales, shape, out + t, scores.stride);
        }
      });
}

using ScoreRun = void (*)(const Queries&, const KvRun&, BlockShape, ScoreTile);
template <class Source, int... kQ>
constexpr std::array<ScoreRun, sizeof...(kQ)> score_runs(std::integer_sequence<int, kQ...>) {
  return {score_run<Source, kQ + 1>...};
}

template <class Source>
void run_scores(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  static constexpr auto kRuns =
      score_runs<Source>(std::make_integer_sequence<int, static_cast<int>(Source::kQueries)>{});
  if (k.n_blocks == 0) return;
  Queries packed;
  while (scores.n_q > 0) {
    // In equal parts: seven queries as four and three, not as six and a lonely one.
    const std::size_t n_parts = (scores.n_q + Source::kQueries - 1) / Source::kQueries;
    const std::size_t n = (scores.n_q + n_parts - 1) / n_parts;
    pack_queries<Source>(q, n, shape.head_dim, packed);
    kRuns[n - 1](packed, k, shape, {scores.data, n, scores.stride});
    q += n * shape.head_dim;
    scores.data += n * scores.stride;
    scores.n_q -= n;
  }
}

}  // namespace

void run_scores_integers(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  run_scores<IntegerSource>(q, k, shape, scores);
}
void run_scores_q8_0(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  run_scores<BlockSource<Q8Planes>>(q, k, shape, scores);
}
void run_scores_q4_0(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  run_scores<BlockSource<Q4Planes>>(q, k, shape, scores);
}

}  // namespace larder::simd::avx512
