// Sealing: full bf16 blocks to codes. Lanes are tokens of K and channels of V, each holding a pair
// of values, as in the blocks themselves, so that codes need no shuffling either.
#include "simd/avx2/code_writer.h"
#include "simd/avx2/codes.h"
#include "simd/by_number.h"

namespace larder::simd::avx2 {
namespace {

constexpr std::size_t kLanes = 16;       // of a plane: two vectors
constexpr std::size_t kMaxTokens = 128;  // of a block

// Sums of squares, or largest magnitudes, of rows so far.
inline __m256 measure(CodeFit fit, __m256 so_far, __m256 x) {
  if (fit == CodeFit::largest) return _mm256_max_ps(so_far, magnitude(x));
  return _mm256_add_ps(so_far, _mm256_mul_ps(x, x));
}

// Scales and factors of 8 rows from what was measured of them. Of CodeFit::norm the scales follow
// when the codes are known.
struct RowFit {
  __m128i scales = _mm_setzero_si128();
  __m256 factors;
  RowFit(const CodeBook& book, std::size_t head_dim, __m256 measured) {
    if (book.fit == CodeFit::norm) {
      const __m256 some = _mm256_cmp_ps(measured, _mm256_setzero_ps(), _CMP_GT_OQ);
      const __m256 root = _mm256_sqrt_ps(_mm256_set1_ps(static_cast<float>(head_dim)));
      factors = _mm256_and_ps(some, _mm256_div_ps(root, _mm256_sqrt_ps(measured)));
      return;
    }
    scales = to_halves(_mm256_div_ps(measured, _mm256_set1_ps(top_value(book))));
    factors = factors_of(_mm256_cvtph_ps(scales));
  }
};

// The scales that make rows of codes as long as the rows were.
inline __m128i norm_scales(__m256 squares, __m256 code_squares) {
  const __m256 ratio = _mm256_sqrt_ps(_mm256_div_ps(squares, code_squares));
  return to_halves(_mm256_min_ps(ratio, _mm256_set1_ps(kMaxElement)));
}

// Sums of squares of the values of codes, lane by lane.
template <int kBits>
[[gnu::always_inline]] inline __m256 add_square(const Coder<kBits>& coder, __m256 sum,
                                                __m256i code) {
  if constexpr (kBits == 8) return sum;
  const __m256 value = coder.value(code);
  return _mm256_add_ps(sum, _mm256_mul_ps(value, value));
}

template <int kBits>
void encode_k(const CodeBook& book, const std::byte* bf16, BlockShape shape, std::byte* part) {
  using Of = Groups<kBits>;
  const Coder<kBits> coder(book);
  const std::size_t n_pairs = shape.head_dim / 2;
  std::byte* scales = part + code_bytes(book, shape);
  for (std::size_t t = 0; t < shape.block_tokens; t += 8, scales += 16) {
    const std::byte* const from = bf16 + t / kLanes * n_pairs * 64 + t % kLanes * 4;
    std::byte* to = part + t / kLanes * n_pairs * 4 * kBits + t % kLanes * 4;
    __m256 measured = _mm256_setzero_ps(), code_squares = _mm256_setzero_ps();
    for (std::size_t p = 0; p < n_pairs; ++p) {
      const Pair x = load_pair(from + p * 64);
      measured = measure(book.fit, measure(book.fit, measured, x.first), x.second);
    }
    RowFit fit(book, shape.head_dim, measured);
    for (std::size_t p = 0; p < n_pairs; p += Of::kPlanes, to += Of::kBytes) {
      GroupWriter<kBits> group;
      for_each_of(
          typename Of::Indices{}, [&](auto i) __attribute__((always_inline)) {
            const Pair x = load_pair(from + (p + i()) * 64);
            const __m256i low = coder.code(_mm256_mul_ps(x.first, fit.factors));
            const __m256i high = coder.code(_mm256_mul_ps(x.second, fit.factors));
            code_squares = add_square(coder, add_square(coder, code_squares, low), high);
            group.template put<i()>(low, high);
          });
      group.write(to);
    }
    if (book.fit == CodeFit::norm) fit.scales = norm_scales(measured, code_squares);
    store_halves(fit.scales, scales);
  }
}

// What belongs to the rows of a block of V.
struct Rows {
  alignas(32) float measured[kMaxTokens], factors[kMaxTokens], squares[kMaxTokens];
};

inline void measure_rows(const CodeBook& book, const std::byte* bf16, BlockShape shape,
                         Rows& rows) {
  const std::size_t pair_bytes = std::size_t{shape.head_dim} * 4;
  const auto whole = [&](__m256 x) {
    return book.fit == CodeFit::largest ? max_lanes(x) : sum_lanes(x);
  };
  for (std::size_t t = 0; t < shape.block_tokens; t += 2, bf16 += pair_bytes) {
    __m256 low = _mm256_setzero_ps(), high = low;
    for (std::size_t c = 0; c < shape.head_dim; c += 8) {
      const Pair x = load_pair(bf16 + c * 4);
      low = measure(book.fit, low, x.first);
      high = measure(book.fit, high, x.second);
    }
    rows.measured[t] = whole(low);
    rows.measured[t + 1] = whole(high);
    rows.squares[t] = rows.squares[t + 1] = 0;
  }
}

template <int kBits>
void encode_v(const CodeBook& book, const std::byte* bf16, BlockShape shape, std::byte* part) {
  using Of = Groups<kBits>;
  const Coder<kBits> coder(book);
  const std::size_t n = shape.block_tokens, pair_bytes = std::size_t{shape.head_dim} * 4;
  std::byte* const scales = part + code_bytes(book, shape);
  Rows rows;
  measure_rows(book, bf16, shape, rows);
  for (std::size_t t = 0; t < n; t += 8) {
    const RowFit fit(book, shape.head_dim, _mm256_load_ps(rows.measured + t));
    _mm256_store_ps(rows.factors + t, fit.factors);
    store_halves(fit.scales, scales + 2 * t);
  }
  for (std::size_t c = 0; c < shape.head_dim; c += 8) {
    std::byte* to = part + c / kLanes * n * 2 * kBits + c % kLanes * 4;
    for (std::size_t p = 0; p < n / 2; p += Of::kPlanes, to += Of::kBytes) {
      GroupWriter<kBits> group;
      for_each_of(
          typename Of::Indices{}, [&](auto i) __attribute__((always_inline)) {
            const std::size_t t = 2 * (p + i());
            const Pair x = load_pair(bf16 + (p + i()) * pair_bytes + c * 4);
            const __m256 factor = _mm256_broadcast_ss(rows.factors + t);
            const __m256 next = _mm256_broadcast_ss(rows.factors + t + 1);
            const __m256i low = coder.code(_mm256_mul_ps(x.first, factor));
            const __m256i high = coder.code(_mm256_mul_ps(x.second, next));
            if (book.fit == CodeFit::norm) {
              const __m256 zero = _mm256_setzero_ps();
              rows.squares[t] += sum_lanes(add_square(coder, zero, low));
              rows.squares[t + 1] += sum_lanes(add_square(coder, zero, high));
            }
            group.template put<i()>(low, high);
          });
      group.write(to);
    }
  }
  if (book.fit != CodeFit::norm) return;
  for (std::size_t t = 0; t < n; t += 8) {
    store_halves(norm_scales(_mm256_load_ps(rows.measured + t), _mm256_load_ps(rows.squares + t)),
                 scales + 2 * t);
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

}  // namespace larder::simd::avx2
