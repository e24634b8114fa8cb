#include "simd/avx2/row_scores.h"

#include <immintrin.h>

#include <cstring>

#include "simd/avx2/lanes.h"

namespace larder::simd::avx2 {
namespace {

constexpr std::size_t kLanes = 8;

struct Pair {
  __m256 first, second;
};

// `pair` gives eight channels from c on of rows t and t + 1 (t even).
struct F32 {
  static Pair pair(const std::byte* v, std::size_t t, std::size_t c, std::size_t width) {
    const auto* row = reinterpret_cast<const float*>(v) + t * width + c;
    return {_mm256_loadu_ps(row), _mm256_loadu_ps(row + width)};
  }
  static Pair last(const std::byte* v, std::size_t t, std::size_t c, std::size_t width) {
    const auto* row = reinterpret_cast<const float*>(v) + t * width + c;
    return {load_first(row, width - c), load_first(row + width, width - c)};
  }
};

inline __m256 widen(const std::uint16_t* row) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row)));
}
inline __m256 widen_first(const std::uint16_t* row, std::size_t n) {
  alignas(16) std::uint16_t lanes[kLanes] = {};
  std::memcpy(lanes, row, n * sizeof(std::uint16_t));
  return widen(lanes);
}

struct F16 {
  static Pair pair(const std::byte* v, std::size_t t, std::size_t c, std::size_t width) {
    const auto* row = reinterpret_cast<const std::uint16_t*>(v) + t * width + c;
    return {widen(row), widen(row + width)};
  }
  static Pair last(const std::byte* v, std::size_t t, std::size_t c, std::size_t width) {
    const auto* row = reinterpret_cast<const std::uint16_t*>(v) + t * width + c;
    return {widen_first(row, width - c), widen_first(row + width, width - c)};
  }
};

struct Bf16 {
  static Pair split(__m256i both) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(both, 16)),
            _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32(-65536)))};
  }
  static Pair pair(const std::byte* v, std::size_t t, std::size_t c, std::size_t width) {
    const auto* row = reinterpret_cast<const std::uint32_t*>(v) + t / 2 * width + c;
    return split(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row)));
  }
  static Pair last(const std::byte* v, std::size_t t, std::size_t c, std::size_t width) {
    const auto* row = reinterpret_cast<const std::uint32_t*>(v) + t / 2 * width + c;
    alignas(32) std::uint32_t lanes[kLanes] = {};
    std::memcpy(lanes, row, (width - c) * sizeof(std::uint32_t));
    return split(_mm256_load_si256(reinterpret_cast<const __m256i*>(lanes)));
  }
};

// kQ queries against rows t and t + 1. A lane adds its channels in ascending order and the lanes
// are summed in one fixed tree, so a score does not depend on what stands beside.
template <class Format, int kQ>
void score_pair(const float* q, const std::byte* rows, std::size_t t, std::size_t width,
                ScoreTile out) {
  Pair sums[kQ];
  for (Pair& sum : sums) sum = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  std::size_t c = 0;
  for (; c + kLanes <= width; c += kLanes) {
    const Pair values = Format::pair(rows, t, c, width);
    for (int i = 0; i < kQ; ++i) {
      const __m256 x = _mm256_loadu_ps(q + i * width + c);
      sums[i].first = _mm256_fmadd_ps(x, values.first, sums[i].first);
      sums[i].second = _mm256_fmadd_ps(x, values.second, sums[i].second);
    }
  }
  if (c < width) {
    const Pair values = Format::last(rows, t, c, width);
    for (int i = 0; i < kQ; ++i) {
      const __m256 x = load_first(q + i * width + c, width - c);
      sums[i].first = _mm256_fmadd_ps(x, values.first, sums[i].first);
      sums[i].second = _mm256_fmadd_ps(x, values.second, sums[i].second);
    }
  }
  for (int i = 0; i < kQ; ++i) {
    out.data[i * out.stride + t] = sum_lanes(sums[i].first);
    out.data[i * out.stride + t + 1] = sum_lanes(sums[i].second);
  }
}

template <class Format>
void score_rows(const float* q, KvPart part, BlockShape shape, ScoreTile scores) {
  const std::size_t width = shape.head_dim;
  for (std::size_t t = 0; t < shape.block_tokens; t += 2) {
    std::size_t i = 0;
    for (; i + 4 <= scores.n_q; i += 4) {
      score_pair<Format, 4>(q + i * width, part.data, t, width,
                            {scores.data + i * scores.stride, 4, scores.stride});
    }
    for (; i < scores.n_q; ++i) {
      score_pair<Format, 1>(q + i * width, part.data, t, width,
                            {scores.data + i * scores.stride, 1, scores.stride});
    }
  }
}

}  // namespace

void row_scores_f32(const float* q, KvPart rows, BlockShape shape, ScoreTile scores) {
  score_rows<F32>(q, rows, shape, scores);
}
void row_scores_f16(const float* q, KvPart rows, BlockShape shape, ScoreTile scores) {
  score_rows<F16>(q, rows, shape, scores);
}
void row_scores_bf16(const float* q, KvPart rows, BlockShape shape, ScoreTile scores) {
  score_rows<Bf16>(q, rows, shape, scores);
}

}  // namespace larder::simd::avx2
