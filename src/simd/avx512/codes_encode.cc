// Sealing: full bf16 blocks to codes. Lanes are tokens of K and channels of V, each holding a pair
// of values, as in the blocks themselves, so that codes need no shuffling either.
#include "simd/avx512/codes.h"
#include "simd/avx512/planes.h"

namespace larder::simd::avx512 {
namespace {

constexpr std::size_t kLanes = 16;
constexpr std::size_t kMaxTokens = 128;  // of a block
constexpr __mmask16 kAll = 0xffff;
constexpr float kMaxElement = 65504.0F;  // as the scalar set has it

struct Pair {
  __m512 low, high;
};

inline __m512 finite(__m512i bits) {
  const __m512 x = _mm512_castsi512_ps(bits);
  const __mmask16 is_number = _mm512_cmp_ps_mask(x, x, _CMP_ORD_Q);
  const __m512 top = _mm512_set1_ps(kMaxElement);
  const __m512 bottom = _mm512_set1_ps(-kMaxElement);
  return _mm512_maskz_max_ps(is_number, _mm512_maskz_min_ps(is_number, x, top), bottom);
}

inline Pair load_pair(const std::byte* bf16) {
  const __m512i pairs = _mm512_loadu_si512(bf16);
  return {finite(_mm512_maskz_slli_epi32(kAll, pairs, 16)),
          finite(_mm512_and_si512(pairs, _mm512_set1_epi32(-65536)))};
}

inline __m512 magnitude(__m512 x) {
  return _mm512_castsi512_ps(
      _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff)));
}

// Finds the codes of a table of kBits bits.
template <int kBits>
class Coder {
 public:
  explicit Coder(const CodeBook& book) : search_(book.search) {
    alignas(64) float bounds[32], values[32];
    for (int i = 0; i < 32; ++i) {
      bounds[i] = i < (1 << kBits) - 1 ? book.bounds[i] : __builtin_inff();
      const std::uint32_t bits = static_cast<std::uint32_t>(book.values[i]) << 16;
      __builtin_memcpy(&values[i], &bits, sizeof(bits));
    }
    for (int i = 0; i < 2; ++i) {
      bounds_[i] = _mm512_load_ps(bounds + 16 * i);
      values_[i] = _mm512_load_ps(values + 16 * i);
    }
  }

  // Codes in 32-bit lanes.
  [[gnu::always_inline]] __m512i code(__m512 x) const {
    if constexpr (kBits == 8) {
      return search_ == CodeSearch::integer ? integer(x) : e4m3(x);
    } else {
      __m512i code = _mm512_setzero_si512();
      for_each_of(std::make_integer_sequence<int, kBits>{}, [&](auto i) {
        constexpr int kStep = 1 << (kBits - 1 - i());
        const __m512i at = _mm512_add_epi32(code, _mm512_set1_epi32(kStep - 1));
        const __m512 bound = _mm512_permutex2var_ps(bounds_[0], at, bounds_[1]);
        const __mmask16 above = _mm512_cmp_ps_mask(bound, x, _CMP_LT_OQ);
        code = _mm512_mask_add_epi32(code, above, code, _mm512_set1_epi32(kStep));
      });
      return code;
    }
  }
  // Values of codes below 8 bits.
  [[gnu::always_inline]] __m512 value(__m512i code) const {
    return _mm512_permutex2var_ps(values_[0], code, values_[1]);
  }

 private:
  static __m512i sign(__m512 x) {
    const __m512i bits = _mm512_maskz_srli_epi32(kAll, _mm512_castps_si512(x), 24);
    return _mm512_and_si512(bits, _mm512_set1_epi32(0x80));
  }
  // How many of 0.5, 1.5, ... 126.5 are below.
  static __m512i integer(__m512 x) {
    const __m512 at = _mm512_sub_ps(magnitude(x), _mm512_set1_ps(0.5F));
    const __m512 up =
        _mm512_maskz_roundscale_ps(kAll, at, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
    const __m512i code = _mm512_maskz_cvttps_epi32(kAll, up);
    return _mm512_or_si512(_mm512_min_epi32(code, _mm512_set1_epi32(127)), sign(x));
  }
  // To three bits behind the leading one, halves towards zero; steps of 2^-9 below 2^-6.
  static __m512i e4m3(__m512 x) {
    const __m512 size = magnitude(x);
    const __m512i rounded = _mm512_maskz_srli_epi32(
        kAll, _mm512_add_epi32(_mm512_castps_si512(size), _mm512_set1_epi32(0x7ffff)), 20);
    const __m512i normal = _mm512_sub_epi32(rounded, _mm512_set1_epi32((127 - 7) << 3));
    const __m512 steps =
        _mm512_sub_ps(_mm512_mul_ps(size, _mm512_set1_ps(512.0F)), _mm512_set1_ps(0.5F));
    const __m512i small = _mm512_maskz_cvttps_epi32(
        kAll, _mm512_maskz_roundscale_ps(kAll, steps, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC));
    const __mmask16 is_small = _mm512_cmp_ps_mask(size, _mm512_set1_ps(0x1p-6F), _CMP_LT_OQ);
    const __m512i code = _mm512_mask_mov_epi32(normal, is_small, small);
    return _mm512_or_si512(_mm512_min_epi32(code, _mm512_set1_epi32(126)), sign(x));
  }

  CodeSearch search_;
  __m512 bounds_[2], values_[2];
};

// Puts planes, 32 codes in 16-bit lanes each, into a group and writes it when it is full.
template <int kBits>
class GroupWriter {
 public:
  template <int i>
  [[gnu::always_inline]] void put(__m512i plane) {
    if constexpr (kBits == 8) {
      if constexpr (i == 0) {
        words_[0] = plane;
      } else {
        words_[0] = _mm512_packus_epi16(words_[0], plane);
      }
    } else if constexpr (i < 15) {
      constexpr int kPerWord = kBits == 2 || kBits == 4 ? 16 : 16 / kBits;
      constexpr int kPlace = i % kPerWord;
      const __m512i moved = _mm512_slli_epi16(plane, kBits * kPlace);
      __m512i& word = words_[i / kPerWord];
      word = kPlace == 0 ? moved : _mm512_or_si512(word, moved);
    } else {
      for_each_of(std::make_integer_sequence<int, kBits>{}, [&](auto k) {
        const __m512i bit = _mm512_slli_epi16(_mm512_srli_epi16(plane, k()), 15);
        words_[k()] = _mm512_or_si512(words_[k()], bit);
      });
    }
  }
  void write(std::byte* group) const {
    for (int w = 0; w < PlaneReader<kBits>::kWords; ++w) {
      _mm512_storeu_si512(group + w * 64, words_[w]);
    }
  }

 private:
  __m512i words_[PlaneReader<kBits>::kWords];
};

inline __m512i join(__m512i low, __m512i high) {
  return _mm512_or_si512(low, _mm512_maskz_slli_epi32(kAll, high, 16));
}

// Sums of squares, or largest magnitudes, of rows so far.
inline __m512 measure(CodeFit fit, __m512 so_far, __m512 x) {
  if (fit == CodeFit::largest) return _mm512_maskz_max_ps(kAll, so_far, magnitude(x));
  return _mm512_add_ps(so_far, _mm512_mul_ps(x, x));
}

inline __m512 to_half_and_back(__m512 x, __m256i& half) {
  half = _mm512_maskz_cvtps_ph(kAll, x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  return _mm512_maskz_cvtph_ps(kAll, half);
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
    const std::uint32_t bits =
        static_cast<std::uint32_t>(book.values[book.bits == 8 ? 127 : (1U << book.bits) - 1]) << 16;
    float top;
    __builtin_memcpy(&top, &bits, sizeof(top));
    const __m512 scale = to_half_and_back(_mm512_div_ps(measured, _mm512_set1_ps(top)), scales);
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
  switch (book.bits) {
    case 2:
      return encode_k<2>(book, bf16, shape, part);
    case 3:
      return encode_k<3>(book, bf16, shape, part);
    case 4:
      return encode_k<4>(book, bf16, shape, part);
    case 5:
      return encode_k<5>(book, bf16, shape, part);
    default:
      return encode_k<8>(book, bf16, shape, part);
  }
}

void encode_codes_v(const CodeBook& book, const std::byte* bf16, BlockShape shape,
                    std::byte* part) {
  switch (book.bits) {
    case 2:
      return encode_v<2>(book, bf16, shape, part);
    case 3:
      return encode_v<3>(book, bf16, shape, part);
    case 4:
      return encode_v<4>(book, bf16, shape, part);
    case 5:
      return encode_v<5>(book, bf16, shape, part);
    default:
      return encode_v<8>(book, bf16, shape, part);
  }
}

}  // namespace larder::simd::avx512
