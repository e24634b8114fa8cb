#include <immintrin.h>

#include "simd/avx2/lanes.h"
#include "simd/avx2/primitives.h"

namespace larder::simd::avx2 {
namespace {

/// e^x within 2 ulp; exactly 0 for -inf, inf above 88.7, NaN for NaN. As in avx512/vector.cc.
__m256 exp8(__m256 x) {
  x = _mm256_min_ps(_mm256_set1_ps(130.0F), _mm256_max_ps(_mm256_set1_ps(-150.0F), x));
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504F)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375F), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4F), r);
  __m256 p = _mm256_set1_ps(1.395060019e-3F);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.368953222e-3F));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.166620417e-2F));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.666651831e-1F));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.000000096e-1F));
  p = _mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r);
  p = _mm256_add_ps(p, _mm256_set1_ps(1.0F));
  // 2^n as a product of two: n reaches beyond what one exponent field holds.
  const __m256i power = _mm256_cvtps_epi32(n);
  const __m256i half = _mm256_srai_epi32(power, 1), rest = _mm256_sub_epi32(power, half);
  const auto two_to = [](__m256i e) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(e, _mm256_set1_epi32(127)), 23));
  };
  return _mm256_mul_ps(_mm256_mul_ps(p, two_to(half)), two_to(rest));
}

/// As in avx512/vector.cc: a polynomial near zero, 1 - 2 / (e^2x + 1) beyond.
__m256 tanh8(__m256 x) {
  const __m256 one = _mm256_set1_ps(1.0F), sign_bit = _mm256_set1_ps(-0.0F);
  const __m256 magnitude = _mm256_andnot_ps(sign_bit, x);
  const __m256 z = _mm256_mul_ps(x, x);
  __m256 p = _mm256_set1_ps(-5.717064445e-3F);
  p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(2.065060698e-2F));
  p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(-5.374350512e-2F));
  p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(1.333149139e-1F));
  p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(-3.333328393e-1F));
  const __m256 near = _mm256_fmadd_ps(_mm256_mul_ps(p, z), x, x);
  const __m256 e = exp8(_mm256_add_ps(magnitude, magnitude));
  const __m256 far = _mm256_sub_ps(one, _mm256_div_ps(_mm256_set1_ps(2.0F), _mm256_add_ps(e, one)));
  const __m256 is_far = _mm256_cmp_ps(magnitude, _mm256_set1_ps(0.625F), _CMP_GT_OQ);
  return _mm256_blendv_ps(near, _mm256_or_ps(far, _mm256_and_ps(x, sign_bit)), is_far);
}

/// x / (1 + e^-y)
__m256 times_sigmoid(__m256 x, __m256 y) {
  const __m256 e = exp8(_mm256_sub_ps(_mm256_setzero_ps(), y));
  return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0F), e));
}

__m256 silu8(__m256 gate) { return times_sigmoid(gate, gate); }

/// 0.5 g (1 + tanh u) = g / (1 + e^-2u), u = sqrt(2 / pi) (g + 0.044715 g^3)
__m256 gelu8(__m256 gate) {
  const __m256 cubic =
      _mm256_fmadd_ps(_mm256_mul_ps(gate, gate), _mm256_set1_ps(0.044715F), _mm256_set1_ps(1.0F));
  const __m256 twice_u = _mm256_mul_ps(_mm256_mul_ps(gate, cubic), _mm256_set1_ps(1.5957691216F));
  return times_sigmoid(gate, twice_u);
}

template <__m256 (*kActivation)(__m256)>
void activate_mul(const float* gate, const float* up, float* out, std::size_t n) {
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 a = kActivation(_mm256_loadu_ps(gate + i));
    _mm256_storeu_ps(out + i, _mm256_mul_ps(a, _mm256_loadu_ps(up + i)));
  }
  if (i < n) {
    const __m256 a = kActivation(load_first(gate + i, n - i));
    store_first(out + i, _mm256_mul_ps(a, load_first(up + i, n - i)), n - i);
  }
}

}  // namespace

float dot(const float* a, const float* b, std::size_t n) {
  __m256 lanes[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
                     _mm256_setzero_ps()};
  std::size_t i = 0;
  for (; i + 32 <= n; i += 32) {
    for (std::size_t j = 0; j < 4; ++j) {
      lanes[j] =
          _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 8 * j), _mm256_loadu_ps(b + i + 8 * j), lanes[j]);
    }
  }
  for (; i + 8 <= n; i += 8) {
    lanes[0] = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), lanes[0]);
  }
  if (i < n) {
    lanes[1] = _mm256_fmadd_ps(load_first(a + i, n - i), load_first(b + i, n - i), lanes[1]);
  }
  return sum_lanes(
      _mm256_add_ps(_mm256_add_ps(lanes[0], lanes[1]), _mm256_add_ps(lanes[2], lanes[3])));
}

void axpy(float a, const float* x, float* y, std::size_t n) {
  const __m256 factor = _mm256_set1_ps(a);
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(y + i,
                     _mm256_fmadd_ps(factor, _mm256_loadu_ps(x + i), _mm256_loadu_ps(y + i)));
  }
  if (i < n) {
    const std::size_t left = n - i;
    store_first(y + i, _mm256_fmadd_ps(factor, load_first(x + i, left), load_first(y + i, left)),
                left);
  }
}

void scale(float a, float* x, std::size_t n) {
  const __m256 factor = _mm256_set1_ps(a);
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(x + i, _mm256_mul_ps(factor, _mm256_loadu_ps(x + i)));
  }
  for (; i < n; ++i) x[i] *= a;
}

void multiply(const float* x, float* y, std::size_t n) {
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_loadu_ps(y + i)));
  }
  for (; i < n; ++i) y[i] *= x[i];
}

float sum_squares(const float* x, std::size_t n) { return dot(x, x, n); }

float max(const float* x, std::size_t n) {
  __m256 m = _mm256_set1_ps(x[0]), more[3] = {m, m, m};  // so that none waits for another
  std::size_t i = 0;
  for (; i + 32 <= n; i += 32) {
    m = _mm256_max_ps(m, _mm256_loadu_ps(x + i));
    for (std::size_t j = 0; j < 3; ++j) {
      more[j] = _mm256_max_ps(more[j], _mm256_loadu_ps(x + i + 8 * (j + 1)));
    }
  }
  for (const __m256 other : more) m = _mm256_max_ps(m, other);
  for (; i + 8 <= n; i += 8) m = _mm256_max_ps(m, _mm256_loadu_ps(x + i));
  for (; i < n; ++i) m = _mm256_max_ps(m, _mm256_set1_ps(x[i]));
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

float exp_shift_sum(float* x, float shift, std::size_t n, Upcoming next) {
  const __m256 base = _mm256_set1_ps(shift);
  __m256 sum = _mm256_setzero_ps();
  std::size_t i = 0;
  const char* line = reinterpret_cast<const char*>(next.data);
  const char* const end = line + next.n_bytes;
  for (; i + 8 <= n; i += 8) {
    if (line < end) {
      _mm_prefetch(line, _MM_HINT_T0);
      line += 64;
    }
    const __m256 e = exp8(_mm256_sub_ps(_mm256_loadu_ps(x + i), base));
    _mm256_storeu_ps(x + i, e);
    sum = _mm256_add_ps(sum, e);
  }
  for (; line < end; line += 64) _mm_prefetch(line, _MM_HINT_T0);
  if (i < n) {
    store_first(x + i, exp8(_mm256_sub_ps(load_first(x + i, n - i), base)), n - i);
    sum = _mm256_add_ps(sum, load_first(x + i, n - i));
  }
  return sum_lanes(sum);
}

void silu_mul(const float* gate, const float* up, float* out, std::size_t n) {
  activate_mul<silu8>(gate, up, out, n);
}

void gelu_tanh_mul(const float* gate, const float* up, float* out, std::size_t n) {
  activate_mul<gelu8>(gate, up, out, n);
}

void tanh_cap(float* x, float cap, std::size_t n) {
  const __m256 limit = _mm256_set1_ps(cap);
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 y = tanh8(_mm256_div_ps(_mm256_loadu_ps(x + i), limit));
    _mm256_storeu_ps(x + i, _mm256_mul_ps(limit, y));
  }
  if (i < n) {
    const __m256 y = tanh8(_mm256_div_ps(load_first(x + i, n - i), limit));
    store_first(x + i, _mm256_mul_ps(limit, y), n - i);
  }
}

}  // namespace larder::simd::avx2
