// Sealing with a scale and a zero for each channel of K, for each row of V.
#include <type_traits>

#include "simd/avx2/code_writer.h"
#include "simd/avx2/codes.h"
#include "simd/by_number.h"

namespace larder::simd::avx2 {
namespace {

constexpr std::size_t kLanes = 16;  // of a plane: two vectors

// Values, and all ones in lanes where they count; zero elsewhere.
struct Good {
  __m256 x, mask;
};
inline Good good(__m256 x) {
  const __m256 mask = _mm256_cmp_ps(magnitude(x), _mm256_set1_ps(kMaxElement), _CMP_LE_OQ);
  return {_mm256_and_ps(mask, x), mask};
}
struct GoodPair {
  Good first, second;
};
inline GoodPair load_good(const std::byte* bf16) {
  const Pair x = floats_of(load_words(bf16));
  return {good(x.first), good(x.second)};
}

// Smallest and largest values so far.
struct Extremes {
  __m256 least = _mm256_set1_ps(__builtin_inff());
  __m256 most = _mm256_set1_ps(-__builtin_inff());
  void take(const Good& of) {
    least = _mm256_blendv_ps(least, _mm256_min_ps(least, of.x), of.mask);
    most = _mm256_blendv_ps(most, _mm256_max_ps(most, of.x), of.mask);
  }
};

// Codes of 8 bits are the values themselves, in 32-bit lanes.
struct ByteCoder {
  explicit ByteCoder(const CodeBook&) {}

  [[gnu::always_inline]] static __m256i code(__m256 x) {
    const __m256 up = _mm256_ceil_ps(_mm256_sub_ps(x, _mm256_set1_ps(0.5F)));
    const __m256 below = _mm256_min_ps(up, _mm256_set1_ps(255.0F));
    return _mm256_cvttps_epi32(_mm256_max_ps(below, _mm256_setzero_ps()));
  }
};
template <int kBits>
using RangeCoder = std::conditional_t<kBits == 8, ByteCoder, Coder<kBits>>;

// What codes are made of the groups of a part with: channels of K, rows of V.
struct GroupRanges {
  alignas(32) float least[kMaxHeadDim], most[kMaxHeadDim];
  alignas(32) float zeros[kMaxHeadDim], factors[kMaxHeadDim];

  void set(std::size_t g, const Extremes& of) {
    least[g] = min_lanes(of.least);
    most[g] = max_lanes(of.most);
  }
  // From the extremes of `n` groups, a multiple of 8: scales and zeros of the part, and the same as
  // the encoder needs them.
  void fit(const CodeBook& book, std::size_t n, std::byte* scales) {
    const __m256 top = _mm256_set1_ps(top_value(book));
    for (std::size_t g = 0; g < n; g += 8) {
      const __m256 low = _mm256_load_ps(least + g), high = _mm256_load_ps(most + g);
      const __m256 some = _mm256_cmp_ps(low, high, _CMP_LE_OQ);
      const __m128i zero_halves = to_halves(_mm256_and_ps(some, low));
      const __m256 zero = _mm256_cvtph_ps(zero_halves);
      const __m256 range =
          _mm256_max_ps(_mm256_sub_ps(_mm256_and_ps(some, high), zero), _mm256_setzero_ps());
      const __m128i scale_halves = to_halves(_mm256_div_ps(range, top));
      _mm256_store_ps(zeros + g, zero);
      _mm256_store_ps(factors + g, factors_of(_mm256_cvtph_ps(scale_halves)));
      store_halves(scale_halves, scales + 2 * g);
      store_halves(zero_halves, scales + 2 * (n + g));
    }
  }
  [[gnu::always_inline]] __m256 steps(std::size_t g, __m256 x) const {
    return _mm256_mul_ps(_mm256_sub_ps(x, _mm256_broadcast_ss(zeros + g)),
                         _mm256_broadcast_ss(factors + g));
  }
};

// Half of each of a part's planes p < n_planes, whose pairs stand `stride` bytes apart.
template <int kBits>
void write_planes(const RangeCoder<kBits>& coder, const GroupRanges& ranges, const std::byte* from,
                  std::size_t stride, std::size_t n_planes, std::byte* to) {
  using Of = Groups<kBits>;
  for (std::size_t p = 0; p < n_planes; p += Of::kPlanes, to += Of::kBytes) {
    GroupWriter<kBits> group;
    for_each_of(
        typename Of::Indices{}, [&](auto i) __attribute__((always_inline)) {
          const std::size_t at = p + i();
          const GoodPair x = load_good(from + at * stride);
          group.template put<i()>(coder.code(ranges.steps(2 * at, x.first.x)),
                                  coder.code(ranges.steps(2 * at + 1, x.second.x)));
        });
    group.write(to);
  }
}

template <int kBits>
void encode_k(const CodeBook& book, const std::byte* bf16, BlockShape shape, std::byte* part) {
  const std::size_t n_pairs = shape.head_dim / 2, n_tiles = shape.block_tokens / kLanes;
  GroupRanges ranges;
  for (std::size_t p = 0; p < n_pairs; ++p) {
    Extremes low, high;
    for (std::size_t half = 0; half < 2 * n_tiles; ++half) {
      const GoodPair x = load_good(bf16 + (half / 2 * n_pairs + p) * 64 + half % 2 * 32);
      low.take(x.first);
      high.take(x.second);
    }
    ranges.set(2 * p, low);
    ranges.set(2 * p + 1, high);
  }
  ranges.fit(book, shape.head_dim, part + code_bytes(book, shape));
  const RangeCoder<kBits> coder(book);
  for (std::size_t half = 0; half < 2 * n_tiles; ++half) {
    write_planes<kBits>(coder, ranges, bf16 + half / 2 * n_pairs * 64 + half % 2 * 32, 64, n_pairs,
                        part + half / 2 * n_pairs * 4 * kBits + half % 2 * 32);
  }
}

template <int kBits>
void encode_v(const CodeBook& book, const std::byte* bf16, BlockShape shape, std::byte* part) {
  const std::size_t n = shape.block_tokens, pair_bytes = std::size_t{shape.head_dim} * 4;
  GroupRanges ranges;
  for (std::size_t t = 0; t < n; t += 2) {
    Extremes low, high;
    for (std::size_t c = 0; c < shape.head_dim; c += 8) {
      const GoodPair x = load_good(bf16 + t / 2 * pair_bytes + c * 4);
      low.take(x.first);
      high.take(x.second);
    }
    ranges.set(t, low);
    ranges.set(t + 1, high);
  }
  ranges.fit(book, n, part + code_bytes(book, shape));
  const RangeCoder<kBits> coder(book);
  for (std::size_t c = 0; c < shape.head_dim; c += 8) {
    write_planes<kBits>(coder, ranges, bf16 + c * 4, pair_bytes, n / 2,
                        part + c / kLanes * n * 2 * kBits + c % kLanes * 4);
  }
}

}  // namespace

void encode_ranges_k(const CodeBook& book, const std::byte* bf16, BlockShape shape,
                     std::byte* part) {
  by_range_bits(book.bits, [&](auto n) { encode_k<n()>(book, bf16, shape, part); });
}

void encode_ranges_v(const CodeBook& book, const std::byte* bf16, BlockShape shape,
                     std::byte* part) {
  by_range_bits(book.bits, [&](auto n) { encode_v<n()>(book, bf16, shape, part); });
}

}  // namespace larder::simd::avx2
