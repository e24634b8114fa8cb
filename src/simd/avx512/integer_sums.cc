// Weighted sums of runs of integers by VPDPWSSD: a lane is a channel, an instruction two tokens of
// it, and a stretch's sum is scaled when it is whole.
#include "simd/avx512/integer_rows.h"
#include "simd/avx512/integer_runs.h"

namespace larder::simd::avx512 {
namespace {

/// The weights of a stretch for a group of channels, as integers. Dword 4 l + 2 h + e has those of
/// rows 16 h + 4 l + 2 e and the next: what packing two vectors lane by lane makes of them.
template <int kQ>
struct Weights {
  alignas(64) std::uint32_t pairs[kQ][16];
  float units[kQ];
};

template <class Source, int kQ>
[[gnu::always_inline]] inline void pack_weights(const ScoreTile& weights, const Stretch& stretch,
                                                std::size_t group,
                                                const typename Source::Scales& scales,
                                                Weights<kQ>& out) {
  const bool is_whole = stretch.n_rows == kStretchTokens;
  const __m512 low_scales = scales.load(group, 0);
  const __m512 high_scales = is_whole ? scales.load(group, kLanes) : _mm512_setzero_ps();
  const __mmask16 high_rows = is_whole ? kAll : __mmask16{0};
  LARDER_UNROLL
  for (int i = 0; i < kQ; ++i) {
    const float* const at = weights.data + i * weights.stride + stretch.token;
    const __m512 low = _mm512_mul_ps(_mm512_loadu_ps(at), low_scales);
    const __m512 high = _mm512_mul_ps(_mm512_maskz_loadu_ps(high_rows, at + kLanes), high_scales);
    const float largest = largest_of(_mm512_max_epu32(size_bits(low), size_bits(high)));
    const __m512 factor = _mm512_set1_ps(factor_of(largest));
    _mm512_store_si512(out.pairs[i], _mm512_packs_epi32(nearest(_mm512_mul_ps(low, factor)),
                                                        nearest(_mm512_mul_ps(high, factor))));
    out.units[i] = unit_of(largest);
  }
}

// sums[i] [2][16] += the stretch's weighted sums of a group of channels.
template <class Source, int kQ>
[[gnu::always_inline]] inline void add_group(const Weights<kQ>& weights, const Stretch& stretch,
                                             std::size_t group, BlockShape shape, float* sums,
                                             std::size_t stride) {
  __m512i products[kQ][2];
  LARDER_UNROLL
  for (int i = 0; i < kQ; ++i) products[i][0] = products[i][1] = _mm512_setzero_si512();
  for (std::size_t h = 0; h < stretch.n_rows / kLanes; ++h) {
    for (std::size_t l = 0; l < 4; ++l) {
      LARDER_UNROLL
      for (std::size_t e = 0; e < 2; ++e) {
        __m512i rows[2];
        Source::pairs(stretch, 8 * h + 2 * l + e, group, shape, rows);
        LARDER_UNROLL
        for (int i = 0; i < kQ; ++i) {
          const __m512i w =
              _mm512_set1_epi32(static_cast<int>(weights.pairs[i][4 * l + 2 * h + e]));
          products[i][0] = _mm512_dpwssd_epi32(products[i][0], rows[0], w);
          products[i][1] = _mm512_dpwssd_epi32(products[i][1], rows[1], w);
        }
      }
    }
  }
  LARDER_UNROLL
  for (int i = 0; i < kQ; ++i) {
    const __m512 unit = _mm512_set1_ps(weights.units[i]);
    LARDER_UNROLL
    for (int v = 0; v < 2; ++v) {
      float* const at = sums + i * stride + v * kLanes;
      const __m512 product = _mm512_maskz_cvtepi32_ps(kAll, products[i][v]);
      _mm512_store_ps(at, _mm512_fmadd_ps(product, unit, _mm512_load_ps(at)));
    }
  }
}

template <class Source, int kQ>
void add_run(const ScoreTile& weights, const KvRun& v, std::size_t n_blocks, BlockShape shape,
             float* out) {
  constexpr std::size_t kStride = kMaxHeadDim + kLanes;  // no power of two
  alignas(64) float sums[kQ][kStride];
  for (int i = 0; i < kQ; ++i) {
    for (std::size_t c = 0; c < shape.head_dim; ++c) sums[i][c] = 0;
  }
  const std::size_t n_groups = shape.head_dim / kGroupChannels;
  for_each_stretch<Source>(
      v, n_blocks, shape, [&](const Stretch& stretch, const typename Source::Scales& scales) {
        Weights<kQ> packed;
        for (std::size_t g = 0; g < n_groups; ++g) {
          pack_weights<Source, kQ>(weights, stretch, g, scales, packed);
          add_group<Source, kQ>(packed, stretch, g, shape, sums[0] + g * kGroupChannels, kStride);
        }
      });
  for (int i = 0; i < kQ; ++i) {
    for (std::size_t c = 0; c < shape.head_dim; c += kGroupChannels) {
      __m512i vectors[2] = {_mm512_load_si512(sums[i] + c),
                            _mm512_load_si512(sums[i] + c + kLanes)};
      Source::in_order(vectors);
      for (int j = 0; j < 2; ++j) {
        float* const to = out + i * shape.head_dim + c + j * kLanes;
        _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), _mm512_castsi512_ps(vectors[j])));
      }
    }
  }
}

using AddRun = void (*)(const ScoreTile&, const KvRun&, std::size_t, BlockShape, float*);
template <class Source, int... kQ>
constexpr std::array<AddRun, sizeof...(kQ)> add_runs(std::integer_sequence<int, kQ...>) {
  return {add_run<Source, kQ + 1>...};
}

template <class Source>
void run_accumulate(ScoreTile weights, const KvRun& v, BlockShape shape, std::uint32_t n_tokens,
                    float* out) {
  static constexpr auto kRuns =
      add_runs<Source>(std::make_integer_sequence<int, static_cast<int>(Source::kQueries)>{});
  const std::size_t n_blocks = n_tokens / shape.block_tokens;
  if (n_blocks == 0) return;
  while (weights.n_q > 0) {
    const std::size_t n_parts = (weights.n_q + Source::kQueries - 1) / Source::kQueries;
    const std::size_t n = (weights.n_q + n_parts - 1) / n_parts;
    kRuns[n - 1](weights, v, n_blocks, shape, out);
    out += n * shape.head_dim;
    weights.data += n * weights.stride;
    weights.n_q -= n;
  }
}

}  // namespace

void run_accumulate_integers(ScoreTile weights, const KvRun& v, BlockShape shape,
                             std::uint32_t n_tokens, float* out) {
  run_accumulate<IntegerSource>(weights, v, shape, n_tokens, out);
}
void run_accumulate_q8_0(ScoreTile weights, const KvRun& v, BlockShape shape,
                         std::uint32_t n_tokens, float* out) {
  run_accumulate<BlockSource<Q8Planes>>(weights, v, shape, n_tokens, out);
}
void run_accumulate_q4_0(ScoreTile weights, const KvRun& v, BlockShape shape,
                         std::uint32_t n_tokens, float* out) {
  run_accumulate<BlockSource<Q4Planes>>(weights, v, shape, n_tokens, out);
}

}  // namespace larder::simd::avx512
