#include "simd/scalar/byte_rows.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "simd/byte_rows.h"
#include "simd/integer_rows.h"
#include "tensor/half.h"

namespace larder::simd::scalar {
namespace {

constexpr float kMaxElement = 65504.0F;  // of f16: what is beyond would have no finite scale
constexpr float kTop = 127.0F;

// Where an element stands in a bf16 part, in bytes, and in a byte part.
struct Keys {
  static constexpr auto kByte = byte_at_k;
  static std::size_t bf16(std::size_t token, std::size_t channel, BlockShape shape) {
    return (token / 16 * 16 * shape.head_dim + channel / 2 * 32 + token % 16 * 2 + channel % 2) * 2;
  }
};
struct Values {
  static constexpr auto kByte = byte_at_v;
  static std::size_t bf16(std::size_t token, std::size_t channel, BlockShape shape) {
    return ((token / 2 * shape.head_dim + channel) * 2 + token % 2) * 2;
  }
};

std::uint16_t load(const std::byte* half) {
  std::uint16_t x;
  std::memcpy(&x, half, sizeof(x));
  return x;
}

float finite(float x) { return std::isnan(x) ? 0.0F : std::clamp(x, -kMaxElement, kMaxElement); }

// To the nearest integer, halves towards zero.
std::int8_t nearest(float x) {
  const float size = std::clamp(std::ceil(std::abs(x) - 0.5F), 0.0F, kTop);
  return static_cast<std::int8_t>(std::copysign(size, x));
}

template <class Side>
void encode(const std::byte* bf16, BlockShape shape, std::byte* part) {
  std::array<float, kMaxHeadDim> row;
  for (std::uint32_t t = 0; t < shape.block_tokens; ++t) {
    float largest = 0;
    for (std::uint32_t c = 0; c < shape.head_dim; ++c) {
      row[c] = finite(bf16_to_f32(load(bf16 + Side::bf16(t, c, shape))));
      largest = std::max(largest, std::abs(row[c]));
    }
    const std::uint16_t half = f32_to_f16(largest / kTop);
    const float scale = f16_to_f32(half), factor = scale > 0 ? 1 / scale : 0.0F;
    std::memcpy(part + bytes_of_rows(shape) + 2 * std::size_t{t}, &half, sizeof(half));
    for (std::uint32_t c = 0; c < shape.head_dim; ++c) {
      part[Side::kByte(t, c, shape)] = static_cast<std::byte>(nearest(row[c] * factor));
    }
  }
}

template <class Side>
void decode(const std::byte* part, BlockShape shape, std::byte* bf16) {
  for (std::uint32_t t = 0; t < shape.block_tokens; ++t) {
    for (std::uint32_t c = 0; c < shape.head_dim; ++c) {
      const auto x = static_cast<std::int8_t>(part[Side::kByte(t, c, shape)]);
      const std::uint16_t value = f32_to_bf16(static_cast<float>(x));
      std::memcpy(bf16 + Side::bf16(t, c, shape), &value, sizeof(value));
    }
  }
}

/// Numbers as integers of 16 bits.
template <std::size_t kMost>
class Rounded {
 public:
  float unit;
  std::array<std::int32_t, kMost> x;

  /// `numbers` [n], n at most kMost.
  Rounded(const float* numbers, std::size_t n) {
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < n; ++i) {
      bits = std::max(bits, std::bit_cast<std::uint32_t>(numbers[i]) & 0x7fffffffU);
    }
    const auto largest = std::bit_cast<float>(bits);
    // NaN is not below.
    unit = largest < kLeastLargest ? 0.0F : largest * (1.0F / kTopBytes);
    const float inverse = largest < kLeastLargest ? 0.0F : kTopBytes / largest;
    for (std::size_t i = 0; i < n; ++i) {
      const float scaled = numbers[i] * inverse;
      x[i] = std::isfinite(scaled) ? static_cast<std::int32_t>(std::nearbyint(scaled)) : 0;
    }
  }
};

void score_part(const Rounded<kMaxHeadDim>& q, const std::byte* part, BlockShape shape,
                float* scores) {
  for (std::uint32_t t = 0; t < shape.block_tokens; ++t) {
    std::int64_t sum = 0;
    for (std::uint32_t c = 0; c < shape.head_dim; ++c) {
      sum += std::int64_t{q.x[c]} * static_cast<std::int8_t>(part[byte_at_k(t, c, shape)]);
    }
    const float scale = f16_to_f32(load(part + bytes_of_rows(shape) + 2 * std::size_t{t}));
    scores[t] = static_cast<float>(sum) * q.unit * scale;
  }
}

// Of one query, at most kByteRun tokens.
void accumulate_some(const float* weights, const KvRun& v, BlockShape shape, std::size_t n_tokens,
                     float* out) {
  const std::size_t n = shape.block_tokens;
  std::array<float, kByteRun> scaled;
  for (std::size_t t = 0; t < n_tokens; ++t) {
    const std::byte* const scales = v.parts[t / n] + bytes_of_rows(shape);
    scaled[t] = weights[t] * f16_to_f32(load(scales + t % n * 2));
  }
  const Rounded<kByteRun> w(scaled.data(), n_tokens);
  for (std::size_t c = 0; c < shape.head_dim; ++c) {
    std::int64_t sum = 0;
    for (std::size_t t = 0; t < n_tokens; ++t) {
      const std::byte* const part = v.parts[t / n];
      sum += std::int64_t{w.x[t]} * static_cast<std::int8_t>(part[byte_at_v(t % n, c, shape)]);
    }
    out[c] = std::fma(static_cast<float>(sum), w.unit, out[c]);
  }
}

}  // namespace

void encode_bytes_k(const std::byte* bf16, BlockShape shape, std::byte* part) {
  encode<Keys>(bf16, shape, part);
}
void encode_bytes_v(const std::byte* bf16, BlockShape shape, std::byte* part) {
  encode<Values>(bf16, shape, part);
}
void decode_bytes_k(const std::byte* part, BlockShape shape, std::byte* bf16) {
  decode<Keys>(part, shape, bf16);
}
void decode_bytes_v(const std::byte* part, BlockShape shape, std::byte* bf16) {
  decode<Values>(part, shape, bf16);
}

void run_scores_bytes(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  for (std::size_t i = 0; i < scores.n_q; ++i) {
    const Rounded<kMaxHeadDim> query(q + i * shape.head_dim, shape.head_dim);
    for (std::size_t b = 0; b < k.n_blocks; ++b) {
      score_part(query, k.parts[b], shape,
                 scores.data + i * scores.stride + b * shape.block_tokens);
    }
  }
}

void run_accumulate_bytes(ScoreTile weights, const KvRun& v, BlockShape shape,
                          std::uint32_t n_tokens, float* out) {
  const std::size_t chunk = byte_run_tokens(shape);
  for (std::size_t i = 0; i < weights.n_q; ++i) {
    for (std::size_t first = 0; first < n_tokens; first += chunk) {
      const KvRun rest{v.parts + first / shape.block_tokens, 0, 0};
      accumulate_some(weights.data + i * weights.stride + first, rest, shape,
                      std::min(chunk, n_tokens - first), out + i * shape.head_dim);
    }
  }
}

}  // namespace larder::simd::scalar
