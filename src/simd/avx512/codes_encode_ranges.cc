// Sealing with a scale and a zero for each channel of K, for each row of V.
#include <type_traits>

#include "simd/avx512/code_writer.h"
#include "simd/avx512/codes.h"
#include "simd/by_number.h"

namespace larder::simd::avx512 {
namespace {

// A value in each lane, or zero where there is none that counts.
struct Good {
  __m512 x;
  __mmask16 mask;
};
inline Good good(__m512i bits) {
  const __m512 x = _mm512_castsi512_ps(bits);
  const __mmask16 mask = _mm512_cmp_ps_mask(magnitude(x), _mm512_set1_ps(kMaxElement), _CMP_LE_OQ);
  return {_mm512_maskz_mov_ps(mask, x), mask};
}
struct GoodPair {
  Good low, high;
};
inline GoodPair load_good(const std::byte* bf16) {
  const __m512i pairs = _mm512_loadu_si512(bf16);
  return {good(_mm512_maskz_slli_epi32(kAll, pairs, 16)),
          good(_mm512_and_si512(pairs, _mm512_set1_epi32(-65536)))};
}

// Smallest and largest values so far.
struct Extremes {
  __m512 least = _mm512_set1_ps(__builtin_inff());
  __m512 most = _mm512_set1_ps(-__builtin_inff());
  void take(const Good& good) {
    least = _mm512_mask_min_ps(least, good.mask, least, good.x);
    most = _mm512_mask_max_ps(most, good.mask, most, good.x);
  }
};

// Codes of 8 bits are the values themselves, in 32-bit lanes.
struct ByteCoder {
  explicit ByteCoder(const CodeBook&) {}

  [[gnu::always_inline]] static __m512i code(__m512 x) {
    const __m512 up = _mm512_maskz_roundscale_ps(kAll, _mm512_sub_ps(x, _mm512_set1_ps(0.5F)),
                                                 _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
    const __m512 below = _mm512_maskz_min_ps(kAll, up, _mm512_set1_ps(255.0F));
    return _mm512_maskz_cvttps_epi32(kAll, _mm512_maskz_max_ps(kAll, below, _mm512_setzero_ps()));
  }
};
template <int kBits>
using RangeCoder = std::conditional_t<kBits == 8, ByteCoder, Coder<kBits>>;

// What codes are made of the groups of a part with: channels of K, rows of V.
template <std::size_t kMaxGroups>
struct Ranges {
  alignas(64) float least[kMaxGroups], most[kMaxGroups];
  alignas(64) float zeros[kMaxGroups], factors[kMaxGroups];

  void set(std::size_t g, const Extremes& of) {
    least[g] = _mm512_reduce_min_ps(of.least);
    most[g] = _mm512_reduce_max_ps(of.most);
  }
  // From the extremes of `n` groups, a multiple of 16: scales and zeros of the part, and the same
  // as the encoder needs them.
  void fit(const CodeBook& book, std::size_t n, std::byte* scales) {
    const __m512 top = _mm512_set1_ps(top_value(book)), none = _mm512_setzero_ps();
    for (std::size_t g = 0; g < n; g += kLanes) {
      const __m512 low = _mm512_load_ps(least + g), high = _mm512_load_ps(most + g);
      const __mmask16 some = _mm512_cmp_ps_mask(low, high, _CMP_LE_OQ);
      __m256i zero_halves, scale_halves;
      const __m512 zero = to_half_and_back(_mm512_maskz_mov_ps(some, low), zero_halves);
      const __m512 range =
          _mm512_maskz_max_ps(kAll, _mm512_sub_ps(_mm512_maskz_mov_ps(some, high), zero), none);
      const __m512 scale = to_half_and_back(_mm512_div_ps(range, top), scale_halves);
      const __mmask16 above = _mm512_cmp_ps_mask(scale, none, _CMP_GT_OQ);
      _mm512_store_ps(zeros + g, zero);
      _mm512_store_ps(factors + g, _mm512_maskz_div_ps(above, _mm512_set1_ps(1.0F), scale));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(scales + 2 * g), scale_halves);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(scales + 2 * (n + g)), zero_halves);
    }
  }
  [[gnu::always_inline]] __m512 steps(std::size_t g, __m512 x) const {
    return _mm512_mul_ps(_mm512_sub_ps(x, _mm512_set1_ps(zeros[g])), _mm512_set1_ps(factors[g]));
  }
};

template <int kBits>
void encode_k(const CodeBook& book, const std::byte* bf16, BlockShape shape, std::byte* part) {
  using Reader = PlaneReader<kBits>;
  const RangeCoder<kBits> coder(book);
  const std::size_t n_pairs = shape.head_dim / 2, n_tiles = shape.block_tokens / kLanes;
  Ranges<kMaxHeadDim> ranges;
  for (std::size_t p = 0; p < n_pairs; ++p) {
    Extremes low, high;
    for (std::size_t t = 0; t < n_tiles; ++t) {
      const GoodPair x = load_good(bf16 + (t * n_pairs + p) * 64);
      low.take(x.low);
      high.take(x.high);
    }
    ranges.set(2 * p, low);
    ranges.set(2 * p + 1, high);
  }
  ranges.fit(book, shape.head_dim, part + code_bytes(book, shape));
  for (std::size_t t = 0; t < n_tiles; ++t) {
    for (std::size_t p = 0; p < n_pairs; p += Reader::kPlanes) {
      GroupWriter<kBits> group;
      for_each_of(
          typename Reader::Indices{}, [&](auto i) __attribute__((always_inline)) {
            const std::size_t at = p + i();
            const GoodPair x = load_good(bf16 + (t * n_pairs + at) * 64);
            const __m512i low = coder.code(ranges.steps(2 * at, x.low.x));
            const __m512i high = coder.code(ranges.steps(2 * at + 1, x.high.x));
            group.template put<i()>(join(low, high));
          });
      group.write(part);
      part += Reader::kWords * 64;
    }
  }
}

template <int kBits>
void encode_v(const CodeBook& book, const std::byte* bf16, BlockShape shape, std::byte* part) {
  constexpr std::size_t kMaxTokens = 128;  // of a block
  using Reader = PlaneReader<kBits>;
  const RangeCoder<kBits> coder(book);
  const std::size_t n = shape.block_tokens, pair_bytes = std::size_t{shape.head_dim} * 4;
  Ranges<kMaxTokens> ranges;
  for (std::size_t t = 0; t < n; t += 2) {
    Extremes low, high;
    for (std::size_t c = 0; c < shape.head_dim; c += kLanes) {
      const GoodPair x = load_good(bf16 + t / 2 * pair_bytes + c * 4);
      low.take(x.low);
      high.take(x.high);
    }
    ranges.set(t, low);
    ranges.set(t + 1, high);
  }
  ranges.fit(book, n, part + code_bytes(book, shape));
  for (std::size_t c = 0; c < shape.head_dim; c += kLanes) {
    for (std::size_t p = 0; p < n / 2; p += Reader::kPlanes) {
      GroupWriter<kBits> group;
      for_each_of(
          typename Reader::Indices{}, [&](auto i) __attribute__((always_inline)) {
            const std::size_t pair = p + i();
            const GoodPair x = load_good(bf16 + pair * pair_bytes + c * 4);
            const __m512i low = coder.code(ranges.steps(2 * pair, x.low.x));
            const __m512i high = coder.code(ranges.steps(2 * pair + 1, x.high.x));
            group.template put<i()>(join(low, high));
          });
      group.write(part);
      part += Reader::kWords * 64;
    }
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

}  // namespace larder::simd::avx512
