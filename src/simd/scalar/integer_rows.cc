#include "simd/scalar/integer_rows.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "simd/integer_rows.h"
#include "tensor/half.h"
#include "tensor/quant_blocks.h"

namespace larder::simd::scalar {
namespace {

constexpr std::size_t kLanes = 16;  // tokens of a K tile

// Where an integer stands in an integer part.
std::size_t at_k(std::size_t token, std::size_t channel, BlockShape shape) {
  const std::size_t in_group = channel % kGroupChannels;
  const std::size_t plane = 2 * (in_group / 4) + in_group % 2;
  const std::size_t group =
      token / kLanes * (shape.head_dim / kGroupChannels) + channel / kGroupChannels;
  return ((group * 16 + plane) * kLanes + token % kLanes) * 2 + in_group % 4 / 2;
}
std::size_t at_v(std::size_t token, std::size_t channel, BlockShape shape) {
  return (token / 2 * shape.head_dim + channel) * 2 + token % 2;
}

int element(const BlockQ8_0& block, std::size_t i) { return block.q[i]; }
int element(const BlockQ4_0& block, std::size_t i) {
  const unsigned both = block.q[i % 16];
  return static_cast<int>(i < 16 ? both & 15U : both >> 4) - 8;
}

template <class Block, auto kAt>
void unpack(const std::byte* part, BlockShape shape, std::byte* integers) {
  const std::size_t n_groups = shape.head_dim / kGroupChannels;
  std::byte* const scales = integers + integer_bytes(shape);
  for (std::size_t t = 0; t < shape.block_tokens; ++t) {
    for (std::size_t g = 0; g < n_groups; ++g, part += sizeof(Block)) {
      Block block;
      std::memcpy(&block, part, sizeof(block));
      const float scale = f16_to_f32(block.d);
      std::memcpy(scales + 4 * (g * shape.block_tokens + t), &scale, sizeof(scale));
      for (std::size_t i = 0; i < kGroupChannels; ++i) {
        const auto value = static_cast<std::int16_t>(element(block, i));
        std::memcpy(integers + 2 * kAt(t, g * kGroupChannels + i, shape), &value, sizeof(value));
      }
    }
  }
}

// The integers and the unit of n numbers, 32 at most.
struct Integers {
  std::array<std::int32_t, 32> x{};
  float unit = 0;

  Integers() = default;
  Integers(const float* from, std::size_t n) {
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < n; ++i) {
      bits = std::max(bits, std::bit_cast<std::uint32_t>(from[i]) & 0x7fffffffU);
    }
    const auto largest = std::bit_cast<float>(bits);
    unit = largest * (1 / kTopInteger);
    const float factor = largest >= kLeastLargest ? kTopInteger / largest : 0.0F;
    for (std::size_t i = 0; i < n; ++i) {
      const float scaled = from[i] * factor;
      x[i] = std::isnan(scaled) ? 0 : static_cast<std::int32_t>(std::lrint(scaled));
    }
  }
};

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

// The sums of the products of a group of channels of a K tile.
std::array<std::int32_t, kLanes> tile_sums(const Integers& q, const std::byte* planes) {
  std::array<std::int32_t, kLanes> sums{};
  for (std::size_t p = 0; p < 16; ++p) {
    const std::int32_t first = q.x[p / 2 * 4 + p % 2], second = q.x[p / 2 * 4 + p % 2 + 2];
    for (std::size_t t = 0; t < kLanes; ++t, planes += 4) {
      sums[t] += first * load<std::int16_t>(planes) + second * load<std::int16_t>(planes + 2);
    }
  }
  return sums;
}

// Rows [first, first + n_rows) of a part of V, a stretch, and their weights.
struct Stretch {
  const std::byte* part;
  std::size_t first, n_rows;
  const float* weights;
};

// sums [32] += the weighted sums of the group of channels from c on.
void add_group(const Stretch& of, std::size_t c, BlockShape shape, float* sums) {
  const std::size_t group = c / kGroupChannels;
  const std::byte* const scales =
      of.part + integer_bytes(shape) + 4 * (group * shape.block_tokens + of.first);
  std::array<float, kStretchTokens> scaled;
  for (std::size_t t = 0; t < of.n_rows; ++t) {
    scaled[t] = of.weights[t] * load<float>(scales + 4 * t);
  }
  const Integers w(scaled.data(), of.n_rows);
  std::array<std::int32_t, kGroupChannels> products{};
  for (std::size_t t = 0; t < of.n_rows; ++t) {
    const std::byte* element = of.part + 2 * at_v(of.first + t, c, shape);
    for (std::size_t j = 0; j < kGroupChannels; ++j, element += 4) {
      products[j] += w.x[t] * load<std::int16_t>(element);
    }
  }
  for (std::size_t j = 0; j < kGroupChannels; ++j) {
    sums[j] = std::fma(static_cast<float>(products[j]), w.unit, sums[j]);
  }
}

}  // namespace

void unpack_q8_0_k(const std::byte* part, BlockShape shape, std::byte* integers) {
  unpack<BlockQ8_0, at_k>(part, shape, integers);
}
void unpack_q8_0_v(const std::byte* part, BlockShape shape, std::byte* integers) {
  unpack<BlockQ8_0, at_v>(part, shape, integers);
}
void unpack_q4_0_k(const std::byte* part, BlockShape shape, std::byte* integers) {
  unpack<BlockQ4_0, at_k>(part, shape, integers);
}
void unpack_q4_0_v(const std::byte* part, BlockShape shape, std::byte* integers) {
  unpack<BlockQ4_0, at_v>(part, shape, integers);
}

void run_scores_integers(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  const std::size_t n_groups = shape.head_dim / kGroupChannels, n = shape.block_tokens;
  std::array<Integers, kMaxGroups> groups;
  for (std::size_t i = 0; i < scores.n_q; ++i, q += shape.head_dim) {
    for (std::size_t g = 0; g < n_groups; ++g) {
      groups[g] = Integers(q + g * kGroupChannels, kGroupChannels);
    }
    float* out = scores.data + i * scores.stride;
    for (std::size_t b = 0; b < k.n_blocks; ++b, out += n) {
      const std::byte* const scales = k.parts[b] + integer_bytes(shape);
      std::fill_n(out, n, 0.0F);
      for (std::size_t tile = 0; tile < n; tile += kLanes) {
        for (std::size_t g = 0; g < n_groups; ++g) {
          const std::byte* const planes = k.parts[b] + (tile * n_groups + g * kLanes) * 64;
          const auto sums = tile_sums(groups[g], planes);
          for (std::size_t t = 0; t < kLanes; ++t) {
            const auto scale = load<float>(scales + 4 * (g * n + tile + t));
            out[tile + t] =
                std::fma(static_cast<float>(sums[t]), scale * groups[g].unit, out[tile + t]);
          }
        }
      }
    }
  }
}

void run_accumulate_integers(ScoreTile weights, const KvRun& v, BlockShape shape,
                             std::uint32_t n_tokens, float* out) {
  const std::size_t n = shape.block_tokens;
  for (std::size_t i = 0; i < weights.n_q; ++i, out += shape.head_dim) {
    const float* const of_query = weights.data + i * weights.stride;
    std::array<float, kMaxHeadDim> sums{};
    for (std::size_t b = 0; b < n_tokens / n; ++b) {
      for (std::size_t first = 0; first < n; first += kStretchTokens) {
        const Stretch stretch{v.parts[b], first, std::min(kStretchTokens, n - first),
                              of_query + b * n + first};
        for (std::size_t c = 0; c < shape.head_dim; c += kGroupChannels) {
          add_group(stretch, c, shape, sums.data() + c);
        }
      }
    }
    for (std::size_t c = 0; c < shape.head_dim; ++c) out[c] += sums[c];
  }
}

}  // namespace larder::simd::scalar
