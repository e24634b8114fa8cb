#include "simd/scalar/kv.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "tensor/half.h"

namespace larder::simd::scalar {
namespace {

constexpr std::size_t kLanes = 16;   // tokens of a K tile; also the channels worked on together
constexpr std::size_t kQueries = 4;  // queries that share one expanded K or V piece

using Lanes = std::array<float, kLanes>;

template <class T>
T load(const std::byte* base, std::size_t index) {
  T value;
  std::memcpy(&value, base + index * sizeof(T), sizeof(T));
  return value;
}

// The formats: an element of a 16-token K tile ([head_dim][16], or channel pairs interleaved), and
// an element of V ([tokens][head_dim], or token pairs interleaved).
struct F32 {
  static constexpr std::size_t kElementBytes = 4;
  static float k(const std::byte* tile, std::size_t channel, std::size_t lane) {
    return load<float>(tile, channel * kLanes + lane);
  }
  static float v(const std::byte* v, std::size_t token, std::size_t channel, std::size_t head_dim) {
    return load<float>(v, token * head_dim + channel);
  }
};

struct F16 {
  static constexpr std::size_t kElementBytes = 2;
  static float k(const std::byte* tile, std::size_t channel, std::size_t lane) {
    return f16_to_f32(load<std::uint16_t>(tile, channel * kLanes + lane));
  }
  static float v(const std::byte* v, std::size_t token, std::size_t channel, std::size_t head_dim) {
    return f16_to_f32(load<std::uint16_t>(v, token * head_dim + channel));
  }
};

struct Bf16 {
  static constexpr std::size_t kElementBytes = 2;
  static float k(const std::byte* tile, std::size_t channel, std::size_t lane) {
    const std::size_t pair = (channel / 2) * kLanes + lane;
    return bf16_to_f32(load<std::uint16_t>(tile, pair * 2 + channel % 2));
  }
  static float v(const std::byte* v, std::size_t token, std::size_t channel, std::size_t head_dim) {
    const std::size_t pair = (token / 2) * head_dim + channel;
    return bf16_to_f32(load<std::uint16_t>(v, pair * 2 + token % 2));
  }
};

// One lane per token: channels are added in ascending order, whatever stands beside.
template <class Format>
void scores(const float* q, KvPart part, BlockShape shape, ScoreTile out) {
  const std::byte* k = part.data;
  const std::size_t tile_bytes = kLanes * shape.head_dim * Format::kElementBytes;
  for (std::size_t first = 0; first < shape.block_tokens; first += kLanes, k += tile_bytes) {
    for (std::size_t i0 = 0; i0 < out.n_q; i0 += kQueries) {
      const std::size_t n = std::min(kQueries, out.n_q - i0);
      std::array<Lanes, kQueries> sums{};
      for (std::size_t c = 0; c < shape.head_dim; ++c) {
        Lanes row;
        for (std::size_t l = 0; l < kLanes; ++l) row[l] = Format::k(k, c, l);
        for (std::size_t i = 0; i < n; ++i) {
          const float x = q[(i0 + i) * shape.head_dim + c];
          for (std::size_t l = 0; l < kLanes; ++l) sums[i][l] += x * row[l];
        }
      }
      for (std::size_t i = 0; i < n; ++i) {
        std::memcpy(out.data + (i0 + i) * out.stride + first, sums[i].data(), sizeof(Lanes));
      }
    }
  }
}

// One lane per channel: tokens are added in ascending order, whatever stands beside.
template <class Format>
void accumulate(ScoreTile weights, KvPart v, BlockShape shape, std::uint32_t n_tokens, float* out) {
  for (std::size_t c0 = 0; c0 < shape.head_dim; c0 += kLanes) {
    const std::size_t width = std::min<std::size_t>(kLanes, shape.head_dim - c0);
    for (std::size_t t = 0; t < n_tokens; ++t) {
      Lanes row{};
      for (std::size_t l = 0; l < width; ++l) row[l] = Format::v(v.data, t, c0 + l, shape.head_dim);
      for (std::size_t i = 0; i < weights.n_q; ++i) {
        const float w = weights.data[i * weights.stride + t];
        float* sums = out + i * shape.head_dim + c0;
        for (std::size_t l = 0; l < width; ++l) sums[l] += w * row[l];
      }
    }
  }
}

}  // namespace

void scores_f32(const float* q, KvPart k, BlockShape shape, ScoreTile out) {
  scores<F32>(q, k, shape, out);
}
void scores_f16(const float* q, KvPart k, BlockShape shape, ScoreTile out) {
  scores<F16>(q, k, shape, out);
}
void scores_bf16(const float* q, KvPart k, BlockShape shape, ScoreTile out) {
  scores<Bf16>(q, k, shape, out);
}

void accumulate_f32(ScoreTile weights, KvPart v, BlockShape shape, std::uint32_t n_tokens,
                    float* out) {
  accumulate<F32>(weights, v, shape, n_tokens, out);
}
void accumulate_f16(ScoreTile weights, KvPart v, BlockShape shape, std::uint32_t n_tokens,
                    float* out) {
  accumulate<F16>(weights, v, shape, n_tokens, out);
}
void accumulate_bf16(ScoreTile weights, KvPart v, BlockShape shape, std::uint32_t n_tokens,
                     float* out) {
  accumulate<Bf16>(weights, v, shape, n_tokens, out);
}

void fetch_lines(const std::byte*, std::size_t) {}  // there is no such thing in plain C++

}  // namespace larder::simd::scalar
