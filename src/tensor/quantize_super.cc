// Encoders of the formats with 256 elements per block, whose sub-block scales are quantised too.
#include <algorithm>
#include <array>
#include <cmath>

#include "tensor/half.h"
#include "tensor/quant_blocks.h"
#include "tensor/scale_fit.h"

namespace larder {
namespace {

constexpr std::size_t kAffineSub = 32;     // elements under one scale and min (Q4_K, Q5_K)
constexpr std::size_t kSymmetricSub = 16;  // elements under one scale (Q6_K)
constexpr float kMaxSixBit = 63;
constexpr int kPasses = 3;

int nearest_in(float x, int low, int high) noexcept {
  return std::clamp(static_cast<int>(std::lrint(std::clamp(x, -1e6F, 1e6F))), low, high);
}

float round_to_half(float x) noexcept { return f16_to_f32(f32_to_f16(x)); }

float ratio(float a, float b) noexcept { return std::abs(b) < 1e-30F ? 0 : a / b; }

/// A super-block of Q4_K or Q5_K before packing: x ~ (d * scale_j) * q - m * min_j.
struct AffineSuper {
  float d = 0, m = 0;  // as stored, rounded to f16
  std::array<int, 8> scale{}, min{};
  std::array<std::int8_t, kSuperBlock> q{};
  float error = INFINITY;
};

Affine sub_affine(const AffineSuper& s, std::size_t j) noexcept {
  return {s.d * static_cast<float>(s.scale[j]), -(s.m * static_cast<float>(s.min[j]))};
}

/// Rounds the wanted scale and min of each sub-block to six bits. The pair with the smallest error
/// is often not the nearest one, because codes are rounded again: all neighbours are tried.
void choose_sub_scales(const float* x, const float* weight, const std::array<Affine, 8>& wanted,
                       float highest, AffineSuper& s) noexcept {
  s.error = 0;
  for (std::size_t j = 0; j < 8; ++j) {
    const float *xs = x + kAffineSub * j, *ws = weight + kAffineSub * j;
    const int scale = nearest_in(ratio(wanted[j].d, s.d), 0, 63);
    const int min = nearest_in(ratio(-wanted[j].m, s.m), 0, 63);
    float best = INFINITY;
    for (int a = std::max(scale - 1, 0); a <= std::min(scale + 1, 63); ++a) {
      for (int b = std::max(min - 1, 0); b <= std::min(min + 1, 63); ++b) {
        const Affine trial{s.d * static_cast<float>(a), -(s.m * static_cast<float>(b))};
        const float error = rounding_error(xs, ws, kAffineSub, trial, {0, highest});
        if (error < best) {
          best = error;
          s.scale[j] = a;
          s.min[j] = b;
        }
      }
    }
    s.error += round_codes(xs, ws, kAffineSub, sub_affine(s, j), {0, highest},
                           s.q.data() + kAffineSub * j);
  }
}

/// Least squares for d and m with all else fixed.
void refit(const float* x, const float* weight, AffineSuper& s) noexcept {
  double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;  // columns a = scale * q, b = -min
  for (std::size_t i = 0; i < kSuperBlock; ++i) {
    const double a = s.scale[i / kAffineSub] * s.q[i], b = -s.min[i / kAffineSub], w = weight[i];
    aa += w * a * a;
    ab += w * a * b;
    bb += w * b * b;
    ax += w * a * x[i];
    bx += w * b * x[i];
  }
  const double det = aa * bb - ab * ab;
  if (det > 1e-9 * aa * bb) {
    s.d = round_to_half(static_cast<float>((ax * bb - bx * ab) / det));
    s.m = round_to_half(static_cast<float>((bx * aa - ax * ab) / det));
  } else if (aa > 0 && bb == 0) {
    s.d = round_to_half(static_cast<float>(ax / aa));
  }
}

AffineSuper encode_affine(const float* x, const float* weight, float highest) noexcept {
  std::array<Affine, 8> wanted;
  float max_d = 0, max_m = 0;
  for (std::size_t j = 0; j < 8; ++j) {
    wanted[j] = fit_affine(x + kAffineSub * j, weight + kAffineSub * j, kAffineSub, highest, true);
    max_d = std::max(max_d, wanted[j].d);
    max_m = std::max(max_m, -wanted[j].m);
  }
  AffineSuper best, trial;
  trial.d = round_to_half(max_d / kMaxSixBit);
  trial.m = round_to_half(max_m / kMaxSixBit);
  for (int pass = 0; pass < kPasses; ++pass) {
    choose_sub_scales(x, weight, wanted, highest, trial);
    if (!(trial.error < best.error)) break;
    best = trial;
    refit(x, weight, trial);
    if (trial.d < 0 || trial.m < 0) break;
  }
  return best;
}

void pack_scales(const AffineSuper& s, std::uint8_t* packed) noexcept {
  for (std::size_t j = 0; j < 4; ++j) {
    packed[j] = static_cast<std::uint8_t>(s.scale[j] | s.scale[j + 4] >> 4 << 6);
    packed[j + 4] = static_cast<std::uint8_t>(s.min[j] | s.min[j + 4] >> 4 << 6);
    packed[j + 8] = static_cast<std::uint8_t>((s.scale[j + 4] & 15) | (s.min[j + 4] & 15) << 4);
  }
}

void pack_nibbles(const AffineSuper& s, std::uint8_t* q) noexcept {
  for (std::size_t i = 0; i < 128; ++i) {
    const std::size_t low = 64 * (i / 32) + i % 32;
    q[i] = static_cast<std::uint8_t>((s.q[low] & 15) | (s.q[low + 32] & 15) << 4);
  }
}

/// A super-block of Q6_K before packing: x ~ (d * scale_j) * q.
struct SymmetricSuper {
  float d = 0;
  std::array<int, 16> scale{};
  std::array<std::int8_t, kSuperBlock> q{};
  float error = INFINITY;
};

constexpr CodeRange kSixBit{-32, 31};

void choose_sub_scales(const float* x, const float* weight, const std::array<float, 16>& wanted,
                       SymmetricSuper& s) noexcept {
  s.error = 0;
  for (std::size_t j = 0; j < 16; ++j) {
    const float *xs = x + kSymmetricSub * j, *ws = weight + kSymmetricSub * j;
    const int scale = nearest_in(ratio(wanted[j], s.d), -128, 127);
    float best = INFINITY;
    for (int a = std::max(scale - 1, -128); a <= std::min(scale + 1, 127); ++a) {
      const Affine trial{s.d * static_cast<float>(a), 0};
      const float error = rounding_error(xs, ws, kSymmetricSub, trial, kSixBit);
      if (error < best) {
        best = error;
        s.scale[j] = a;
      }
    }
    s.error += round_codes(xs, ws, kSymmetricSub, {s.d * static_cast<float>(s.scale[j]), 0},
                           kSixBit, s.q.data() + kSymmetricSub * j);
  }
}

void refit(const float* x, const float* weight, SymmetricSuper& s) noexcept {
  double aa = 0, ax = 0;
  for (std::size_t i = 0; i < kSuperBlock; ++i) {
    const double a = s.scale[i / kSymmetricSub] * s.q[i], w = weight[i];
    aa += w * a * a;
    ax += w * a * x[i];
  }
  if (aa > 0) s.d = round_to_half(static_cast<float>(ax / aa));
}

SymmetricSuper encode_symmetric(const float* x, const float* weight) noexcept {
  std::array<float, 16> wanted;
  float extreme = 0;
  for (std::size_t j = 0; j < 16; ++j) {
    wanted[j] =
        fit_scale(x + kSymmetricSub * j, weight + kSymmetricSub * j, kSymmetricSub, kSixBit);
    if (std::abs(wanted[j]) > std::abs(extreme)) extreme = wanted[j];
  }
  SymmetricSuper best, trial;
  trial.d = round_to_half(extreme / -128);
  for (int pass = 0; pass < kPasses; ++pass) {
    choose_sub_scales(x, weight, wanted, trial);
    if (!(trial.error < best.error)) break;
    best = trial;
    refit(x, weight, trial);
  }
  return best;
}

}  // namespace

void encode_block(const float* x, const float* weight, BlockQ4K& block) noexcept {
  const AffineSuper s = encode_affine(x, weight, 15);
  block.d = f32_to_f16(s.d);
  block.m = f32_to_f16(s.m);
  pack_scales(s, block.scales);
  pack_nibbles(s, block.q);
}

void encode_block(const float* x, const float* weight, BlockQ5K& block) noexcept {
  const AffineSuper s = encode_affine(x, weight, 31);
  block.d = f32_to_f16(s.d);
  block.m = f32_to_f16(s.m);
  pack_scales(s, block.scales);
  pack_nibbles(s, block.q);
  for (std::size_t i = 0; i < 32; ++i) {
    unsigned bits = 0;
    for (std::size_t j = 0; j < 8; ++j)
      bits |= static_cast<unsigned>(s.q[32 * j + i] >> 4 & 1) << j;
    block.high[i] = static_cast<std::uint8_t>(bits);
  }
}

void encode_block(const float* x, const float* weight, BlockQ6K& block) noexcept {
  const SymmetricSuper s = encode_symmetric(x, weight);
  block.d = f32_to_f16(s.d);
  for (std::size_t j = 0; j < 16; ++j) block.scales[j] = static_cast<std::int8_t>(s.scale[j]);
  for (std::size_t half = 0; half < 2; ++half) {
    const std::int8_t* q = s.q.data() + 128 * half;
    const auto u = [q](std::size_t e) { return static_cast<unsigned>(q[e] + 32); };
    for (std::size_t e = 0; e < 64; ++e) {
      block.low[64 * half + e] = static_cast<std::uint8_t>((u(e) & 15) | (u(e + 64) & 15) << 4);
    }
    for (std::size_t e = 0; e < 32; ++e) {
      block.high[32 * half + e] = static_cast<std::uint8_t>(
          u(e) >> 4 | (u(e + 32) >> 4) << 2 | (u(e + 64) >> 4) << 4 | (u(e + 96) >> 4) << 6);
    }
  }
}

}  // namespace larder
