// Runs of lines of bytes by VPMADDWD: a lane is a token of K or a channel of V, of which an
// instruction takes a pair of elements. Everything is inlined; nothing here is compiled on its own.
#pragma once

#include <array>
#include <bit>
#include <utility>

#include "simd/avx2/byte_lines.h"
#include "simd/avx2/codes.h"
#include "simd/byte_runs.h"
#include "simd/integer_rows.h"
#include "simd/run_distance.h"
#include "simd/unroll.h"

namespace larder::simd::avx2 {
namespace {

constexpr std::size_t kLanes = 16;  // of a tile: two vectors
constexpr std::size_t kMostQueries = 4;
constexpr std::size_t kLine = 64;
constexpr std::size_t kMostProducts = kByteRun;  // whose sum has no more than 32 bits
static_assert(kByteRun <= kMaxHeadDim);

/// Bits without signs of the largest magnitude.
inline __m256i larger(__m256i so_far, __m256 x) {
  const __m256i size = _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffffff));
  return _mm256_max_epi32(so_far, size);
}
inline float largest_of(__m256i sizes) {
  __m128i x = _mm_max_epi32(_mm256_castsi256_si128(sizes), _mm256_extracti128_si256(sizes, 1));
  x = _mm_max_epi32(x, _mm_shuffle_epi32(x, _MM_SHUFFLE(1, 0, 3, 2)));
  x = _mm_max_epi32(x, _mm_shuffle_epi32(x, _MM_SHUFFLE(2, 3, 0, 1)));
  return std::bit_cast<float>(_mm_cvtsi128_si32(x));
}

/// Rows of integers: queries, or weights of at most kByteRun tokens, in pairs.
struct Integers {
  // Rows begin so far apart: no power of two, so that they do not compete for cache sets.
  alignas(32) std::int32_t pairs[kMostQueries][kMaxHeadDim / 2 + 8];
  float units[kMostQueries];

  /// x [n], n a multiple of 16. Pairs are neighbours where `is_natural`, else of each four the
  /// first and the third, and the second and the fourth.
  template <bool is_natural>
  void set(std::size_t row, const float* x, std::size_t n, float largest) {
    const bool is_zero = largest < kLeastLargest;
    units[row] = is_zero ? 0.0F : largest * (1.0F / kTopBytes);
    const __m256 inverse = _mm256_set1_ps(is_zero ? 0.0F : kTopBytes / largest);
    for (std::size_t i = 0; i < n; i += 8) {
      __m256i all = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i), inverse));
      if (!is_natural) all = _mm256_shuffle_epi32(all, _MM_SHUFFLE(3, 1, 2, 0));
      const __m256i words = _mm256_packs_epi32(all, all);
      const __m256i together = _mm256_permute4x64_epi64(words, _MM_SHUFFLE(3, 1, 2, 0));
      _mm_store_si128(reinterpret_cast<__m128i*>(pairs[row] + i / 2),
                      _mm256_castsi256_si128(together));
    }
  }
};

template <int kQ>
using Sums = __m256i[kQ][2];

/// sums += products of the `n` lines from `first` on of kQ rows of integers. Their groups stand at
/// `groups`, `apart` from one to the next, and what is fetched meanwhile is `ahead` of them.
template <int kQ, class Reader>
[[gnu::always_inline]] inline void add_products(const Reader& reader, const Integers& x,
                                                std::size_t first, std::size_t n,
                                                const std::byte* groups, std::size_t apart,
                                                std::ptrdiff_t ahead, Sums<kQ>& sums) {
  for (std::size_t s = first; s < first + n; s += Reader::kVectors, groups += apart) {
    LARDER_UNROLL
    for (int i = 0; i < Reader::kBytes; i += static_cast<int>(kLine)) {
      _mm_prefetch(reinterpret_cast<const char*>(groups + i) + ahead, _MM_HINT_T0);
    }
    for_each_of(
        std::make_integer_sequence<int, Reader::kVectors>{}, [&](auto j) __attribute__((
                                                                 always_inline)) {
          __m256i even[2], odd[2];
          LARDER_UNROLL
          for (int h = 0; h < 2; ++h) {
            const __m256i bytes = reader.template bytes<j()>(groups + 32 * h);
            even[h] = _mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8);
            odd[h] = _mm256_srai_epi16(bytes, 8);
          }
          LARDER_UNROLL
          for (int i = 0; i < kQ; ++i) {
            const std::int32_t* const pairs = x.pairs[i] + 2 * s;
            const __m256i a = _mm256_set1_epi32(pairs[Reader::first(j())]);
            const __m256i b = _mm256_set1_epi32(pairs[Reader::second(j())]);
            LARDER_UNROLL
            for (int h = 0; h < 2; ++h) {
              const __m256i two =
                  _mm256_add_epi32(_mm256_madd_epi16(even[h], a), _mm256_madd_epi16(odd[h], b));
              sums[i][h] = _mm256_add_epi32(sums[i][h], two);
            }
          }
        });
  }
}

/// The floats next to sums of two times kMostProducts products.
inline __m256 wide_sum(__m256i a, __m256i b) {
  const auto half = [](__m128i x, __m128i y) {
    return _mm256_cvtpd_ps(_mm256_add_pd(_mm256_cvtepi32_pd(x), _mm256_cvtepi32_pd(y)));
  };
  return _mm256_set_m128(half(_mm256_extracti128_si256(a, 1), _mm256_extracti128_si256(b, 1)),
                         half(_mm256_castsi256_si128(a), _mm256_castsi256_si128(b)));
}

/// Of a part; where its scales begin.
template <class Reader>
[[gnu::always_inline]] inline std::size_t row_bytes(BlockShape shape) {
  return bytes_of_rows(shape) * Reader::kBits / 8;
}
template <class Reader>
[[gnu::always_inline]] inline std::size_t part_bytes(BlockShape shape) {
  return row_bytes<Reader>(shape) + 2 * std::size_t{shape.block_tokens};
}

/// The K tile from row `t` of a part on.
template <int kQ, class Reader>
[[gnu::always_inline]] inline void score_tile(const Reader& reader, const Integers& q,
                                              const std::byte* part, std::size_t t,
                                              std::ptrdiff_t ahead, BlockShape shape, float* out,
                                              std::size_t stride) {
  constexpr std::size_t kMostSteps = kMostProducts / 4;
  const std::size_t n_steps = shape.head_dim / 4;
  const std::size_t n_first = n_steps < kMostSteps ? n_steps : kMostSteps;
  const std::byte* const groups = part + t * shape.head_dim * Reader::kBits / 8;
  Sums<kQ> sums = {}, rest = {};
  add_products<kQ>(reader, q, 0, n_first, groups, Reader::kBytes, ahead, sums);
  if (n_first < n_steps) {
    add_products<kQ>(reader, q, n_first, n_steps - n_first,
                     groups + n_first / Reader::kVectors * Reader::kBytes, Reader::kBytes, ahead,
                     rest);
  }
  LARDER_UNROLL
  for (int h = 0; h < 2; ++h) {
    const std::byte* const halves = part + row_bytes<Reader>(shape) + 2 * (t + 8 * h);
    const __m256 scales =
        _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(halves)));
    LARDER_UNROLL
    for (int i = 0; i < kQ; ++i) {
      const __m256 sum =
          n_first < n_steps ? wide_sum(sums[i][h], rest[i][h]) : _mm256_cvtepi32_ps(sums[i][h]);
      const __m256 score = _mm256_mul_ps(_mm256_mul_ps(sum, _mm256_set1_ps(q.units[i])), scales);
      _mm256_storeu_ps(out + i * stride + 8 * h, score);
    }
  }
}

template <class Reader>
inline void fetch_scales(const std::byte* part, std::ptrdiff_t ahead, BlockShape shape) {
  for (std::size_t i = row_bytes<Reader>(shape); i < part_bytes<Reader>(shape); i += kLine) {
    _mm_prefetch(reinterpret_cast<const char*>(part + i) + ahead, _MM_HINT_T0);
  }
}

template <class Reader, int kQ>
void score_run(const Reader& reader, const Integers& q, const KvRun& k, BlockShape shape,
               ScoreTile scores) {
  for (std::size_t b = 0; b < k.n_blocks; ++b) {
    const std::ptrdiff_t ahead = distance_ahead(k, b, part_bytes<Reader>(shape));
    fetch_scales<Reader>(k.parts[b], ahead, shape);
    for (std::size_t t = 0; t < shape.block_tokens; t += kLanes, scores.data += kLanes) {
      score_tile<kQ>(reader, q, k.parts[b], t, ahead, shape, scores.data, scores.stride);
    }
  }
}

/// Blocks of at most kByteRun tokens, and their rounded weights.
template <class Reader, int kQ>
void add_blocks(const Reader& reader, const Integers& weights, const KvRun& v, std::size_t n_blocks,
                BlockShape shape, float* out) {
  const std::size_t n_tiles = shape.head_dim / kLanes, n_steps = shape.block_tokens / 4;
  Sums<kQ> totals[kMaxHeadDim / kLanes];
  for (std::size_t c = 0; c < n_tiles; ++c) {
    for (int i = 0; i < 2 * kQ; ++i) totals[c][i / 2][i % 2] = _mm256_setzero_si256();
  }
  for (std::size_t b = 0; b < n_blocks; ++b) {
    const std::ptrdiff_t ahead = distance_ahead(v, b, part_bytes<Reader>(shape));
    for (std::size_t c = 0; c < n_tiles; ++c) {
      Sums<kQ> sums;
      LARDER_UNROLL
      for (int i = 0; i < 2 * kQ; ++i) sums[i / 2][i % 2] = totals[c][i / 2][i % 2];
      add_products<kQ>(reader, weights, b * n_steps, n_steps,
                       v.parts[b] + c * Reader::tile_v(shape), Reader::group_v(shape), ahead, sums);
      LARDER_UNROLL
      for (int i = 0; i < 2 * kQ; ++i) totals[c][i / 2][i % 2] = sums[i / 2][i % 2];
    }
  }
  for (int i = 0; i < kQ; ++i, out += shape.head_dim) {
    const __m256 unit = _mm256_set1_ps(weights.units[i]);
    for (std::size_t c = 0; c < 2 * n_tiles; ++c) {
      const __m256 sum = _mm256_cvtepi32_ps(totals[c / 2][i][c % 2]);
      _mm256_storeu_ps(out + 8 * c, _mm256_fmadd_ps(sum, unit, _mm256_loadu_ps(out + 8 * c)));
    }
  }
}

template <class Reader>
using ScoreRun = void (*)(const Reader&, const Integers&, const KvRun&, BlockShape, ScoreTile);
template <class Reader>
using AddBlocks = void (*)(const Reader&, const Integers&, const KvRun&, std::size_t, BlockShape,
                           float*);
using Queries = std::make_integer_sequence<int, static_cast<int>(kMostQueries)>;
template <class Reader, int... kQ>
constexpr std::array<ScoreRun<Reader>, kMostQueries> score_runs(std::integer_sequence<int, kQ...>) {
  return {score_run<Reader, kQ + 1>...};
}
template <class Reader, int... kQ>
constexpr std::array<AddBlocks<Reader>, kMostQueries> add_runs(std::integer_sequence<int, kQ...>) {
  return {add_blocks<Reader, kQ + 1>...};
}

/// Table::run_scores_bytes, of parts that `reader` reads.
template <class Reader>
void run_scores(const Reader& reader, const float* q, const KvRun& k, BlockShape shape,
                ScoreTile scores) {
  static constexpr auto kRuns = score_runs<Reader>(Queries{});
  Integers integers;
  for_each_few<kMostQueries>(scores.n_q, [&](std::size_t n, std::size_t first) {
    for (std::size_t i = 0; i < n; ++i) {
      const float* const row = q + (first + i) * shape.head_dim;
      __m256i largest = _mm256_setzero_si256();
      for (std::size_t c = 0; c < shape.head_dim; c += 8) {
        largest = larger(largest, _mm256_loadu_ps(row + c));
      }
      integers.set<Reader::kIsNatural>(i, row, shape.head_dim, largest_of(largest));
    }
    kRuns[n - 1](reader, integers, k, shape,
                 {scores.data + first * scores.stride, n, scores.stride});
  });
}

/// Table::run_accumulate_bytes, of parts that `reader` reads.
template <class Reader>
void run_accumulate(const Reader& reader, ScoreTile weights, const KvRun& v, BlockShape shape,
                    std::uint32_t n_tokens, float* out) {
  static constexpr auto kRuns = add_runs<Reader>(Queries{});
  alignas(32) float scaled[kByteRun];
  Integers integers;
  for_each_byte_run<read_halves>(
      v, shape, row_bytes<Reader>(shape), n_tokens,
      [&](const KvRun& run, std::size_t n, const float* scales, std::size_t first) {
        const std::size_t n_rows = n * shape.block_tokens;
        for_each_few<kMostQueries>(weights.n_q, [&](std::size_t n_q, std::size_t first_q) {
          for (std::size_t i = 0; i < n_q; ++i) {
            const float* const row = weights.data + (first_q + i) * weights.stride + first;
            __m256i largest = _mm256_setzero_si256();
            for (std::size_t t = 0; t < n_rows; t += 8) {
              const __m256 x = _mm256_mul_ps(_mm256_loadu_ps(row + t), _mm256_load_ps(scales + t));
              largest = larger(largest, x);
              _mm256_store_ps(scaled + t, x);
            }
            integers.set<Reader::kIsNatural>(i, scaled, n_rows, largest_of(largest));
          }
          kRuns[n_q - 1](reader, integers, run, n, shape, out + first_q * shape.head_dim);
        });
      });
}

}  // namespace
}  // namespace larder::simd::avx2
