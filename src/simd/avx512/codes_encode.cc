// Sealing: full bf16 blocks to codes. Lanes are tokens of K and channels of V, each holding a pair
// of values, as in the blocks themselves, so that codes need no shuffling either.
#include "simd/avx512/code_writer.h"
#include "simd/avx512/codes.h"
#include "simd/by_number.h"

namespace larder::simd::avx512 {
namespace {

constexpr std::size_t kMaxTokens = 128;  // of a block

// Sums of squares, or largest magnitudes, of rows so far.
inline __m512 measure(CodeFit fit, __m512 so_far, __m512 x) {
  if (fit == CodeFit::largest) return _mm512_maskz_max_ps(kAll, so_far, magnitude(x));
  return _mm512_add_ps(so_far, _mm512_mul_ps(x, x));
}

// Scales and factors of 16 rows from what was measured of them. Of CodeFit::norm the scales follow
// when the codes are known.
struct RowFit {
  __m256i scales;
  __m512 factors;
  RowFit(const CodeBook& book, std::size_t head_dim, __m512 measured) {
    const __m512 zero = _mm512_setzero_ps();
    if (book.fit == CodeFit::norm) {
      const __mmask16 some = _mm512_cmp_ps_mask(measured, zero, _CMP_GT_OQ);
      const __m512 root = _mm512_maskz_sqrt_ps(kAll, _mm512_set1_ps(static_cast<float>(head_dim)));
      factors = _mm512_maskz_div_ps(some, root, _mm512_maskz_sqrt_ps(some, measured));
      scales = _mm256_setzero_si256();
      return;
    }
    const __m512 top = _mm512_set1_ps(top_value(book));
    const __m512 scale = to_half_and_back(_mm512_div_ps(measured, top), scales);
    const __mmask16 some = _mm512_cmp_ps_mask(scale, zero, _CMP_GT_OQ);
    factors = _mm512_maskz_div_ps(some, _mm512_set1_ps(1.0F), scale);
  }
};

// The scales that make rows of codes as long as the rows were.
inline __m256i norm_scales(__m512 squares, __m512 code_squares) {
  const __m512 ratio = _mm512_maskz_sqrt_ps(kAll, _mm512_div_ps(squares, code_squares));
  __m256i half;
  to_half_and_back(_mm512_maskz_min_ps(kAll, ratio, _mm512_set1_ps(kMaxElement)), half);
  return half;
}

template <int kBits>
void encode_k(const CodeBook& book, const std::byte* bf16, BlockShape shape, std::byte* part) {
  using Reader = PlaneReader<kBits>;
  const Coder<kBits> coder(book);
  std::byte* scales = part + std::size_t{shape.block_tokens} * shape.head_dim * kBits / 8;
  const std::size_t n_pairs = shape.head_dim / 2;
  for (std::size_t tile = 0; tile < shape.block_tokens / kLanes; ++tile) {
    __m512 measured = _mm512_setzero_ps(), code_squares = _mm512_setzero_ps();
    for (std::size_t p = 0; p < n_pairs; ++p) {
      const Pair x = load_pair(bf16 + p * 64);
      measured = measure(book.fit, measure(book.fit, measured, x.low), x.high);
    }
    RowFit fit(book, shape.head_dim, measured);
    for (std::size_t p = 0; p < n_pairs; p += Reader::kPlanes) {
      GroupWriter<kBits> group;
      for_each_of(
          typename Reader::Indices{}, [&](auto i) __attribute__((always_inline)) {
            const Pair x = load_pair(bf16 + (p + i()) * 64);
            const __m512i low = coder.code(_mm512_mul_ps(x.low, fit.factors));
            const __m512i high = coder.code(_mm512_mul_ps(x.high, fit.factors));
            if constexpr (kBits < 8) {
              const __m512 a = coder.value(low), b = coder.value(high);
              code_squares = _mm512_add_ps(code_squares, _mm512_mul_ps(a, a));
              code_squares = _mm512_add_ps(code_squares, _mm512_mul_ps(b, b));
            }
            group.template put<i()>(join(low, high));
          });
      group.write(part);
      part += Reader::kWords * 64;
    }
    if (book.fit == CodeFit::norm) fit.scales = norm_scales(measured, code_squares);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(scales + tile * 2 * kLanes), fit.scales);
    bf16 += n_pairs * 64;
  }
}

inline float sum_or_max(CodeFit fit, __m512 x) {
  return fit == CodeFit::largest ? _mm512_reduce_max_ps(x) : _mm512_reduce_add_ps(x);
}

template <int kBits>
void encode_v(const CodeBook& book, const std::byte* bf16, BlockShape shape, std::byte* part) {
  using Reader = PlaneReader<kBits>;
  const Coder<kBits> coder(book);
  const std::size_t n = shape.block_tokens, pair_bytes = std::size_t{shape.head_dim} * 4;
  std::byte* scales = part + n * shape.head_dim * kBits / 8;
  alignas(64) float measured[kMaxTokens], factors[kMaxTokens], sums[kMaxTokens];
  alignas(64) __m512 code_squares[kMaxTokens];
  for (std::size_t t = 0; t < n; t += 2) {
    __m512 low = _mm512_setzero_ps(), high = low;
    for (std::size_t c = 0; c < shape.head_dim; c += kLanes) {
      const Pair x = load_pair(bf16 + t / 2 * pair_bytes + c * 4);
      low = measure(book.fit, low, x.low);
      high = measure(book.fit, high, x.high);
    }
    measured[t] = sum_or_max(book.fit, low);
    measured[t + 1] = sum_or_max(book.fit, high);
    code_squares[t] = code_squares[t + 1] = _mm512_setzero_ps();
  }
  for (std::size_t t = 0; t < n; t += kLanes) {
    const RowFit fit(book, shape.head_dim, _mm512_load_ps(measured + t));
    _mm512_store_ps(factors + t, fit.factors);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(scales + 2 * t), fit.scales);
  }
  for (std::size_t c = 0; c < shape.head_dim; c += kLanes) {
    for (std::size_t p = 0; p < n / 2; p += Reader::kPlanes) {
      GroupWriter<kBits> group;
      for_each_of(
          typename Reader::Indices{}, [&](auto i) __attribute__((always_inline)) {
            const std::size_t t = 2 * (p + i());
            const Pair x = load_pair(bf16 + (p + i()) * pair_bytes + c * 4);
            const __m512i low = coder.code(_mm512_mul_ps(x.low, _mm512_set1_ps(factors[t])));
            const __m512i high = coder.code(_mm512_mul_ps(x.high, _mm512_set1_ps(factors[t + 1])));
            if constexpr (kBits < 8) {
              const __m512 a = coder.value(low), b = coder.value(high);
              code_squares[t] = _mm512_add_ps(code_squares[t], _mm512_mul_ps(a, a));
              code_squares[t + 1] = _mm512_add_ps(code_squares[t + 1], _mm512_mul_ps(b, b));
            }
            group.template put<i()>(join(low, high));
          });
      group.write(part);
      part += Reader::kWords * 64;
    }
  }
  if (book.fit != CodeFit::norm) return;
  for (std::size_t t = 0; t < n; ++t) sums[t] = _mm512_reduce_add_ps(code_squares[t]);
  for (std::size_t t = 0; t < n; t += kLanes) {
    const __m256i half = norm_scales(_mm512_load_ps(measured + t), _mm512_load_ps(sums + t));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(scales + 2 * t), half);
  }
}

}  // namespace

void encode_codes_k(const CodeBook& book, const std::byte* bf16, BlockShape shape,
                    std::byte* part) {
  if (book.fit == CodeFit::range) return encode_ranges_k(book, bf16, shape, part);
  by_bits(book.bits, [&](auto n) { encode_k<n()>(book, bf16, shape, part); });
}

void encode_codes_v(const CodeBook& book, const std::byte* bf16, BlockShape shape,
                    std::byte* part) {
  if (book.fit == CodeFit::range) return encode_ranges_v(book, bf16, shape, part);
  by_bits(book.bits, [&](auto n) { encode_v<n()>(book, bf16, shape, part); });
}

}  // namespace larder::simd::avx512
