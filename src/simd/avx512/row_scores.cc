#include "simd/avx512/row_scores.h"

#include <immintrin.h>

namespace larder::simd::avx512 {
namespace {

constexpr std::size_t kLanes = 16;
constexpr int kTokens = 4;  // rows whose sums stand in registers together
constexpr __mmask16 kAll = 0xffff;

// The masked forms with a full mask compile to the plain ones, see kv.cc.
struct Pair {
  __m512 first, second;
};

// `pair` gives the 16 channels from c on of rows t and t + 1 (t even); lanes outside `mask` are not
// read.
struct F32 {
  static constexpr std::size_t kElementBytes = 4;
  static Pair pair(const std::byte* v, std::size_t t, std::size_t c, std::size_t width,
                   __mmask16 mask) {
    const auto* row = reinterpret_cast<const float*>(v) + t * width + c;
    return {_mm512_maskz_loadu_ps(mask, row), _mm512_maskz_loadu_ps(mask, row + width)};
  }
};

struct F16 {
  static constexpr std::size_t kElementBytes = 2;
  static Pair pair(const std::byte* v, std::size_t t, std::size_t c, std::size_t width,
                   __mmask16 mask) {
    const auto* row = reinterpret_cast<const std::uint16_t*>(v) + t * width + c;
    return {_mm512_maskz_cvtph_ps(kAll, _mm256_maskz_loadu_epi16(mask, row)),
            _mm512_maskz_cvtph_ps(kAll, _mm256_maskz_loadu_epi16(mask, row + width))};
  }
};

struct Bf16 {
  static constexpr std::size_t kElementBytes = 2;
  static Pair pair(const std::byte* v, std::size_t t, std::size_t c, std::size_t width,
                   __mmask16 mask) {
    const auto* row = reinterpret_cast<const std::uint32_t*>(v) + t / 2 * width + c;
    const __m512i both = _mm512_maskz_loadu_epi32(mask, row);
    return {_mm512_castsi512_ps(_mm512_maskz_slli_epi32(kAll, both, 16)),
            _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(-65536)))};
  }
};

struct Rows {
  const std::byte* data;
  std::ptrdiff_t ahead;  // how far from here stands what will be read next
  std::size_t width;
};

// kQ queries against kTokens rows from `t` on. A lane adds its channels in ascending order and the
// lanes are summed in one fixed tree, so a score does not depend on what stands beside.
template <class Format, int kQ>
void score_some(const float* q, const Rows& rows, std::size_t t, float* out, std::size_t stride) {
  __m512 sums[kQ][kTokens];
  for (int i = 0; i < kQ; ++i) {
    for (int j = 0; j < kTokens; ++j) sums[i][j] = _mm512_setzero_ps();
  }
  for (std::size_t c = 0; c < rows.width; c += kLanes) {
    const std::size_t left = rows.width - c;
    const auto mask = static_cast<__mmask16>(left >= kLanes ? kAll : (1U << left) - 1U);
    __m512 values[kTokens];
    for (int j = 0; j < kTokens; j += 2) {
      const Pair pair = Format::pair(rows.data, t + j, c, rows.width, mask);
      values[j] = pair.first;
      values[j + 1] = pair.second;
      const std::byte* at = rows.data + ((t + j) * rows.width + 2 * c) * Format::kElementBytes;
      _mm_prefetch(reinterpret_cast<const char*>(at) + rows.ahead, _MM_HINT_T0);
    }
    for (int i = 0; i < kQ; ++i) {
      const __m512 x = _mm512_maskz_loadu_ps(mask, q + i * rows.width + c);
      for (int j = 0; j < kTokens; ++j) sums[i][j] = _mm512_fmadd_ps(x, values[j], sums[i][j]);
    }
  }
  for (int i = 0; i < kQ; ++i) {
    for (int j = 0; j < kTokens; ++j) out[i * stride + j] = _mm512_reduce_add_ps(sums[i][j]);
  }
}

template <class Format>
void score_rows(const float* q, KvPart part, BlockShape shape, ScoreTile scores) {
  const Rows rows{part.data, part.next == nullptr ? 0 : part.next - part.data, shape.head_dim};
  for (std::size_t t = 0; t < shape.block_tokens; t += kTokens) {
    std::size_t i = 0;
    for (; i + 4 <= scores.n_q; i += 4) {
      score_some<Format, 4>(q + i * rows.width, rows, t, scores.data + i * scores.stride + t,
                            scores.stride);
    }
    for (; i < scores.n_q; ++i) {
      score_some<Format, 1>(q + i * rows.width, rows, t, scores.data + i * scores.stride + t,
                            scores.stride);
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

}  // namespace larder::simd::avx512
