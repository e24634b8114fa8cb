// Runs of blocks of codes. Those that stand for bytes: code_bytes.cc; here are e4m3 and those with
// CodeFit::range. Planes are decoded in registers and multiplied there, pairs in the order of
// kv.cc, so that the sums are those of decoded blocks.
#include "simd/avx2/codes.h"
#include "simd/avx2/plane_readers.h"
#include "simd/by_number.h"
#include "simd/run_distance.h"
#include "simd/unroll.h"

namespace larder::simd::avx2 {
namespace {

constexpr std::size_t kLanes = 16;  // tokens of a K tile, channels of a plane of V: two vectors
constexpr std::size_t kMaxRunTokens = 512;
constexpr std::size_t kQueries = 4;  // whose sums fit in registers beside a plane

// Inlined early: GCC 12 drops calls of a function that does nothing but this.
[[gnu::always_inline]] inline void fetch(const std::byte* from, const std::byte* to,
                                         std::ptrdiff_t ahead) {
  for (; from < to; from += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(from) + ahead, _MM_HINT_T0);
  }
}

// Eight elements of each of kQ rows: those of one place stand side by side.
[[gnu::always_inline]] inline void store_side_by_side(const __m256 (&x)[1], float* out) {
  _mm256_storeu_ps(out, x[0]);
}
[[gnu::always_inline]] inline void store_side_by_side(const __m256 (&x)[2], float* out) {
  const __m256 low = _mm256_unpacklo_ps(x[0], x[1]), high = _mm256_unpackhi_ps(x[0], x[1]);
  _mm256_storeu_ps(out, _mm256_permute2f128_ps(low, high, 0x20));
  _mm256_storeu_ps(out + 8, _mm256_permute2f128_ps(low, high, 0x31));
}
[[gnu::always_inline]] inline void store_side_by_side(const __m256 (&x)[4], float* out) {
  for (int half = 0; half < 2; ++half) {  // places 2 half, 2 half + 1 and four behind them
    const auto two = [half](__m256 a, __m256 b) {
      return _mm256_castps_pd(half == 0 ? _mm256_unpacklo_ps(a, b) : _mm256_unpackhi_ps(a, b));
    };
    const __m256d a = two(x[0], x[1]), b = two(x[2], x[3]);
    const __m256 even = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
    const __m256 odd = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
    _mm256_storeu_ps(out + 8 * half, _mm256_permute2f128_ps(even, odd, 0x20));
    _mm256_storeu_ps(out + 16 + 8 * half, _mm256_permute2f128_ps(even, odd, 0x31));
  }
}

// kQ rows of n elements, `stride` apart, times `scales` [n] unless that is null, as [n, kQ].
template <int kQ>
void put_side_by_side(const float* rows, std::size_t stride, const float* scales, std::size_t n,
                      float* out) {
  for (std::size_t t = 0; t < n; t += 8) {
    __m256 x[kQ];
    for (int i = 0; i < kQ; ++i) {
      x[i] = _mm256_loadu_ps(rows + i * stride + t);
      if (scales != nullptr) x[i] = _mm256_mul_ps(x[i], _mm256_loadu_ps(scales + t));
    }
    store_side_by_side(x, out + t * kQ);
  }
}

// Planes that stand at one place of each part of a run: a K tile of one, or 16 channels of V.
struct Strip {
  KvRun run;
  std::size_t part_bytes, offset;
  std::size_t n_planes;  // of each part
  Ranges ranges;
};

// Half planes against two elements of x, queries or weights, of each kQ values side by side.
template <int kQ>
[[gnu::always_inline]] inline void add_plane(const Pair& low, const Pair& high, const float* x,
                                             __m256 (&sums)[kQ][2]) {
  LARDER_UNROLL
  for (int i = 0; i < kQ; ++i) {
    const __m256 first = _mm256_broadcast_ss(x + i);
    sums[i][0] = _mm256_fmadd_ps(first, low.first, sums[i][0]);
    sums[i][1] = _mm256_fmadd_ps(first, high.first, sums[i][1]);
    const __m256 second = _mm256_broadcast_ss(x + kQ + i);
    sums[i][0] = _mm256_fmadd_ps(second, low.second, sums[i][0]);
    sums[i][1] = _mm256_fmadd_ps(second, high.second, sums[i][1]);
  }
}

template <int kQ, class Reader>
[[gnu::always_inline]] inline void add_group(const Reader& reader, const std::byte* codes,
                                             const Ranges& ranges, const float* x,
                                             __m256 (&sums)[kQ][2]) {
  for_each_of(
      typename Reader::TwoIndices{}, [&](auto i) __attribute__((always_inline)) {
        constexpr int kFirst = 2 * i(), kSecond = kFirst + 1;
        const auto low = reader.template load<i()>(codes);
        const auto high = reader.template load<i()>(codes + 32);
        add_plane<kQ>(reader.template pair<kFirst>(low, ranges),
                      reader.template pair<kFirst>(high, ranges), x + 2 * kFirst * kQ, sums);
        add_plane<kQ>(reader.template pair<kSecond>(low, ranges),
                      reader.template pair<kSecond>(high, ranges), x + 2 * kSecond * kQ, sums);
      });
}

// total += what the planes give. A function of its own, for K and V, of each
// reader and count: they take long to compile.
template <int kQ, class Reader>
[[gnu::noinline]] void add_planes(const Reader& reader, const Strip& strip, const float* x,
                                  __m256 (&total)[kQ][2]) {
  __m256 sums[kQ][2];
  LARDER_UNROLL
  for (int i = 0; i < kQ; ++i) {
    sums[i][0] = total[i][0];
    sums[i][1] = total[i][1];
  }
  Ranges ranges = strip.ranges;
  for (std::size_t b = 0; b < strip.run.n_blocks; ++b) {
    const std::byte* codes = strip.run.parts[b] + strip.offset;
    const std::ptrdiff_t ahead = distance_ahead(strip.run, b, strip.part_bytes);
    for (std::size_t p = 0; p < strip.n_planes; p += Reader::kPlanes) {
      add_group<kQ>(reader, codes, ranges, x, sums);
      fetch(codes, codes + Reader::kBytes, ahead);
      codes += Reader::kBytes;
      ranges.scales += 2 * Reader::kPlanes;
      ranges.zeros += 2 * Reader::kPlanes;
      ranges.fours += 8 * Reader::kPlanes;
      x += 2 * Reader::kPlanes * kQ;
    }
  }
  LARDER_UNROLL
  for (int i = 0; i < kQ; ++i) {
    total[i][0] = sums[i][0];
    total[i][1] = sums[i][1];
  }
}

// kQ queries, side by side, against a K tile, whose rows have `scales` unless that is null.
template <int kQ, class Reader>
void score_tile(const Reader& reader, const float* q, const Strip& tile, const float* scales,
                ScoreTile out) {
  __m256 sums[kQ][2];
  LARDER_UNROLL
  for (int i = 0; i < kQ; ++i) sums[i][0] = sums[i][1] = _mm256_setzero_ps();
  add_planes<kQ>(reader, tile, q, sums);
  for (int h = 0; h < 2; ++h) {
    const __m256 scale = scales != nullptr ? _mm256_loadu_ps(scales + 8 * h) : _mm256_set1_ps(1);
    LARDER_UNROLL
    for (int i = 0; i < kQ; ++i) {
      _mm256_storeu_ps(out.data + i * out.stride + 8 * h, _mm256_mul_ps(sums[i][h], scale));
    }
  }
}

template <int kQ, class Reader>
void score_run(const CodeBook& book, const Reader& reader, const float* q, const KvRun& k,
               BlockShape shape, ScoreTile out) {
  const bool has_ranges = book.fit == CodeFit::range;
  const std::size_t n_bytes = code_bytes(book, shape), part_bytes = k_part_bytes(book, shape);
  const std::size_t tile_bytes = kLanes * shape.head_dim * book.bits / 8;
  const std::size_t n_scales = has_ranges ? shape.head_dim : shape.block_tokens;
  alignas(32) float x[kQ * kMaxHeadDim];
  put_side_by_side<kQ>(q, shape.head_dim, nullptr, shape.head_dim, x);
  PartScales<kMaxHeadDim> of;
  for (std::size_t b = 0; b < k.n_blocks; ++b) {
    const std::byte* const part = k.parts[b];
    of.read(book, part + n_bytes, n_scales);
    const KvRun run{k.parts + b, 1, k.n_blocks - b - 1 + k.n_next};
    Strip tile{run, part_bytes, 0, shape.head_dim / 2, of.ranges()};
    fetch(part + n_bytes, part + part_bytes, distance_ahead(run, 0, part_bytes));
    for (std::size_t t = 0; t < shape.block_tokens; t += kLanes, tile.offset += tile_bytes) {
      score_tile<kQ>(reader, x, tile, has_ranges ? nullptr : of.scales + t, out);
      out.data += kLanes;
    }
  }
}

// V of a run: weights [tokens, queries], and scales and zeros of rows with CodeFit::range.
struct Weighted {
  const KvRun& run;
  const float* weights;
  Ranges ranges;
};

// kQ rows of weights against V, the sums of 16 channels at a time in registers from the first block
// to the last.
template <int kQ, class Reader>
void add_run(const CodeBook& book, const Reader& reader, const Weighted& v, BlockShape shape,
             float* out) {
  const std::size_t n = shape.block_tokens, part_bytes = v_part_bytes(book, shape);
  const std::size_t lane_bytes = n * kLanes * book.bits / 8;  // of 16 channels
  for (std::size_t c = 0; c < shape.head_dim; c += kLanes) {
    __m256 sums[kQ][2];
    LARDER_UNROLL
    for (int i = 0; i < kQ; ++i) {
      const float* const from = out + i * shape.head_dim + c;
      sums[i][0] = _mm256_loadu_ps(from);
      sums[i][1] = _mm256_loadu_ps(from + 8);
    }
    const Strip channels{v.run, part_bytes, c / kLanes * lane_bytes, n / 2, v.ranges};
    add_planes<kQ>(reader, channels, v.weights, sums);
    LARDER_UNROLL
    for (int i = 0; i < kQ; ++i) {
      float* const to = out + i * shape.head_dim + c;
      _mm256_storeu_ps(to, sums[i][0]);
      _mm256_storeu_ps(to + 8, sums[i][1]);
    }
  }
}

// How many of n queries are worked on together.
std::size_t together(std::size_t n) { return n >= kQueries ? kQueries : n >= 2 ? 2 : 1; }
// f(integral_constant n) for such a number.
template <class F>
void with_count(std::size_t n, F&& f) {
  by_number<1, 2, kQueries>(n, f);
}

// f(reader) for the codes of a book that are multiplied here.
template <class F>
void with_run_reader(const CodeBook& book, F&& f) {
  if (book.fit != CodeFit::range) return f(E4m3Reader(book));
  with_range_reader(book, f);
}

}  // namespace

void run_scores_codes(const CodeBook& book, const float* q, const KvRun& k, BlockShape shape,
                      ScoreTile scores) {
  if (codes_are_bytes(book)) return run_scores_code_bytes(book, q, k, shape, scores);
  with_run_reader(book, [&](const auto& reader) {
    while (scores.n_q > 0) {
      const std::size_t n = together(scores.n_q);
      with_count(
          n, [&](auto n_q) { score_run<decltype(n_q)::value>(book, reader, q, k, shape, scores); });
      q += n * shape.head_dim;
      scores.data += n * scores.stride;
      scores.n_q -= n;
    }
  });
}

void run_accumulate_codes(const CodeBook& book, ScoreTile weights, const KvRun& v, BlockShape shape,
                          std::uint32_t n_tokens, float* out) {
  if (codes_are_bytes(book)) {
    return run_accumulate_code_bytes(book, weights, v, shape, n_tokens, out);
  }
  alignas(32) float scaled[kQueries * kMaxRunTokens];
  PartScales<kMaxRunTokens> of;
  const bool has_ranges = book.fit == CodeFit::range;
  const std::size_t n_bytes = code_bytes(book, shape), block_tokens = shape.block_tokens;
  const std::size_t chunk_blocks = kMaxRunTokens / block_tokens;
  KvRun left = v;
  for (std::size_t n_blocks = n_tokens / block_tokens; n_blocks > 0;) {
    const std::size_t n_now = n_blocks < chunk_blocks ? n_blocks : chunk_blocks;
    const std::size_t n = n_now * block_tokens;
    for (std::size_t b = 0; b < n_now; ++b) {
      of.read(book, left.parts[b] + n_bytes, block_tokens, b * block_tokens);
    }
    const KvRun now{left.parts, n_now, left.n_blocks - n_now + left.n_next};
    with_run_reader(book, [&](const auto& reader) {
      for (std::size_t first = 0, n_q = 0; first < weights.n_q; first += n_q) {
        n_q = together(weights.n_q - first);
        const float* const some = weights.data + first * weights.stride;
        with_count(n_q, [&](auto count) {
          constexpr int kQ = decltype(count)::value;
          put_side_by_side<kQ>(some, weights.stride, has_ranges ? nullptr : of.scales, n, scaled);
          add_run<kQ>(book, reader, {now, scaled, of.ranges()}, shape,
                      out + first * shape.head_dim);
        });
      }
    });
    weights.data += n;
    left.parts += n_now;
    left.n_blocks -= n_now;
    n_blocks -= n_now;
  }
}

}  // namespace larder::simd::avx2
