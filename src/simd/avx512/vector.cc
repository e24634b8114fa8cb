#include <immintrin.h>

#include "simd/avx512/primitives.h"

namespace larder::simd::avx512 {
namespace {

__mmask16 first_lanes(std::size_t n) { return static_cast<__mmask16>((1U << n) - 1U); }

/// e^x within 2 ulp; exactly 0 for -inf, inf above 88.7, NaN for NaN.
/// x log2(e) = n + r with |r| <= 1/2; the polynomial is a minimax fit of (2^r - 1) / r.
__m512 exp16(__m512 x) {
  // The operand order lets NaN through. e^-150 underflows to 0 when its exponent is put in place.
  x = _mm512_min_ps(_mm512_set1_ps(130.0F), _mm512_max_ps(_mm512_set1_ps(-150.0F), x));
  const __m512 log2e = _mm512_set1_ps(1.442695041F);
  const __m512 n =
      _mm512_roundscale_ps(_mm512_mul_ps(x, log2e), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 r = _mm512_fmsub_ps(x, log2e, n);  // exact products: log2(e) in two parts
  r = _mm512_fmadd_ps(x, _mm512_set1_ps(1.925962989e-8F), r);
  __m512 p = _mm512_set1_ps(1.326472731e-3F);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.671512991e-3F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.550733581e-2F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.402224243e-1F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.931470037e-1F));
  return _mm512_scalef_ps(_mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F)), n);
}

/// tanh x: an odd polynomial (minimax fit) near zero, where 1 - 2 / (e^2x + 1) would cancel.
__m512 tanh16(__m512 x) {
  const __m512 one = _mm512_set1_ps(1.0F);
  const __m512 magnitude = _mm512_abs_ps(x);
  const __m512 z = _mm512_mul_ps(x, x);
  __m512 p = _mm512_set1_ps(-5.717064445e-3F);
  p = _mm512_fmadd_ps(p, z, _mm512_set1_ps(2.065060698e-2F));
  p = _mm512_fmadd_ps(p, z, _mm512_set1_ps(-5.374350512e-2F));
  p = _mm512_fmadd_ps(p, z, _mm512_set1_ps(1.333149139e-1F));
  p = _mm512_fmadd_ps(p, z, _mm512_set1_ps(-3.333328393e-1F));
  const __m512 near = _mm512_fmadd_ps(_mm512_mul_ps(p, z), x, x);
  const __m512 e = exp16(_mm512_add_ps(magnitude, magnitude));
  const __m512 far = _mm512_sub_ps(one, _mm512_div_ps(_mm512_set1_ps(2.0F), _mm512_add_ps(e, one)));
  const __m512 sign = _mm512_and_ps(x, _mm512_set1_ps(-0.0F));
  const __mmask16 is_far = _mm512_cmp_ps_mask(magnitude, _mm512_set1_ps(0.625F), _CMP_GT_OQ);
  return _mm512_mask_or_ps(near, is_far, far, sign);
}

/// x / (1 + e^-y)
__m512 times_sigmoid(__m512 x, __m512 y) {
  const __m512 e = exp16(_mm512_sub_ps(_mm512_setzero_ps(), y));
  return _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1.0F), e));
}

__m512 silu16(__m512 gate) { return times_sigmoid(gate, gate); }

/// 0.5 g (1 + tanh u) = g / (1 + e^-2u), u = sqrt(2 / pi) (g + 0.044715 g^3)
__m512 gelu16(__m512 gate) {
  const __m512 cubic =
      _mm512_fmadd_ps(_mm512_mul_ps(gate, gate), _mm512_set1_ps(0.044715F), _mm512_set1_ps(1.0F));
  const __m512 twice_u = _mm512_mul_ps(_mm512_mul_ps(gate, cubic), _mm512_set1_ps(1.5957691216F));
  return times_sigmoid(gate, twice_u);
}

template <__m512 (*kActivation)(__m512)>
void activate_mul(const float* gate, const float* up, float* out, std::size_t n) {
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m512 a = kActivation(_mm512_loadu_ps(gate + i));
    _mm512_storeu_ps(out + i, _mm512_mul_ps(a, _mm512_loadu_ps(up + i)));
  }
  if (i < n) {
    const __mmask16 tail = first_lanes(n - i);
    const __m512 a = kActivation(_mm512_maskz_loadu_ps(tail, gate + i));
    _mm512_mask_storeu_ps(out + i, tail, _mm512_mul_ps(a, _mm512_maskz_loadu_ps(tail, up + i)));
  }
}

}  // namespace

float dot(const float* a, const float* b, std::size_t n) {
  __m512 lanes[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                     _mm512_setzero_ps()};
  std::size_t i = 0;
  for (; i + 64 <= n; i += 64) {
    for (std::size_t j = 0; j < 4; ++j) {
      lanes[j] = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 16 * j), _mm512_loadu_ps(b + i + 16 * j),
                                 lanes[j]);
    }
  }
  for (; i + 16 <= n; i += 16) {
    lanes[0] = _mm512_fmadd_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), lanes[0]);
  }
  if (i < n) {
    const __mmask16 tail = first_lanes(n - i);
    lanes[1] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(tail, a + i),
                               _mm512_maskz_loadu_ps(tail, b + i), lanes[1]);
  }
  return _mm512_reduce_add_ps(
      _mm512_add_ps(_mm512_add_ps(lanes[0], lanes[1]), _mm512_add_ps(lanes[2], lanes[3])));
}

void axpy(float a, const float* x, float* y, std::size_t n) {
  const __m512 factor = _mm512_set1_ps(a);
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    _mm512_storeu_ps(y + i,
                     _mm512_fmadd_ps(factor, _mm512_loadu_ps(x + i), _mm512_loadu_ps(y + i)));
  }
  if (i < n) {
    const __mmask16 tail = first_lanes(n - i);
    const __m512 sum = _mm512_fmadd_ps(factor, _mm512_maskz_loadu_ps(tail, x + i),
                                       _mm512_maskz_loadu_ps(tail, y + i));
    _mm512_mask_storeu_ps(y + i, tail, sum);
  }
}

void scale(float a, float* x, std::size_t n) {
  const __m512 factor = _mm512_set1_ps(a);
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    _mm512_storeu_ps(x + i, _mm512_mul_ps(factor, _mm512_loadu_ps(x + i)));
  }
  if (i < n) {
    const __mmask16 tail = first_lanes(n - i);
    _mm512_mask_storeu_ps(x + i, tail, _mm512_mul_ps(factor, _mm512_maskz_loadu_ps(tail, x + i)));
  }
}

void multiply(const float* x, float* y, std::size_t n) {
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    _mm512_storeu_ps(y + i, _mm512_mul_ps(_mm512_loadu_ps(x + i), _mm512_loadu_ps(y + i)));
  }
  if (i < n) {
    const __mmask16 tail = first_lanes(n - i);
    const __m512 product =
        _mm512_mul_ps(_mm512_maskz_loadu_ps(tail, x + i), _mm512_maskz_loadu_ps(tail, y + i));
    _mm512_mask_storeu_ps(y + i, tail, product);
  }
}

float sum_squares(const float* x, std::size_t n) { return dot(x, x, n); }

float max(const float* x, std::size_t n) {
  __m512 m = _mm512_set1_ps(x[0]), more[3] = {m, m, m};  // so that none waits for another
  std::size_t i = 0;
  for (; i + 64 <= n; i += 64) {
    m = _mm512_max_ps(m, _mm512_loadu_ps(x + i));
    for (std::size_t j = 0; j < 3; ++j) {
      more[j] = _mm512_max_ps(more[j], _mm512_loadu_ps(x + i + 16 * (j + 1)));
    }
  }
  for (const __m512 other : more) m = _mm512_max_ps(m, other);
  for (; i + 16 <= n; i += 16) m = _mm512_max_ps(m, _mm512_loadu_ps(x + i));
  if (i < n) {
    const __mmask16 tail = first_lanes(n - i);
    m = _mm512_mask_max_ps(m, tail, m, _mm512_maskz_loadu_ps(tail, x + i));
  }
  return _mm512_reduce_max_ps(m);
}

float exp_shift_sum(float* x, float shift, std::size_t n, Upcoming next) {
  const __m512 base = _mm512_set1_ps(shift);
  __m512 sum = _mm512_setzero_ps();
  std::size_t i = 0;
  const char* line = reinterpret_cast<const char*>(next.data);
  const char* const end = line + next.n_bytes;
  for (; i + 16 <= n; i += 16) {
    if (line < end) {
      _mm_prefetch(line, _MM_HINT_T1);
      line += 64;
    }
    const __m512 e = exp16(_mm512_sub_ps(_mm512_loadu_ps(x + i), base));
    _mm512_storeu_ps(x + i, e);
    sum = _mm512_add_ps(sum, e);
  }
  for (; line < end; line += 64) _mm_prefetch(line, _MM_HINT_T1);
  if (i < n) {
    const __mmask16 tail = first_lanes(n - i);
    const __m512 e = exp16(_mm512_sub_ps(_mm512_maskz_loadu_ps(tail, x + i), base));
    _mm512_mask_storeu_ps(x + i, tail, e);
    sum = _mm512_mask_add_ps(sum, tail, sum, e);
  }
  return _mm512_reduce_add_ps(sum);
}

void silu_mul(const float* gate, const float* up, float* out, std::size_t n) {
  activate_mul<silu16>(gate, up, out, n);
}

void gelu_tanh_mul(const float* gate, const float* up, float* out, std::size_t n) {
  activate_mul<gelu16>(gate, up, out, n);
}

void tanh_cap(float* x, float cap, std::size_t n) {
  const __m512 limit = _mm512_set1_ps(cap);
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m512 y = tanh16(_mm512_div_ps(_mm512_loadu_ps(x + i), limit));
    _mm512_storeu_ps(x + i, _mm512_mul_ps(limit, y));
  }
  if (i < n) {
    const __mmask16 tail = first_lanes(n - i);
    const __m512 y = tanh16(_mm512_div_ps(_mm512_maskz_loadu_ps(tail, x + i), limit));
    _mm512_mask_storeu_ps(x + i, tail, _mm512_mul_ps(limit, y));
  }
}

}  // namespace larder::simd::avx512
