#include "simd/scalar/row_scores.h"

#include <cstring>

#include "tensor/half.h"

namespace larder::simd::scalar {
namespace {

template <class T>
T load(const std::byte* base, std::size_t index) {
  T value;
  std::memcpy(&value, base + index * sizeof(T), sizeof(T));
  return value;
}

struct F32 {
  static float at(const std::byte* v, std::size_t token, std::size_t channel, std::size_t width) {
    return load<float>(v, token * width + channel);
  }
};

struct F16 {
  static float at(const std::byte* v, std::size_t token, std::size_t channel, std::size_t width) {
    return f16_to_f32(load<std::uint16_t>(v, token * width + channel));
  }
};

struct Bf16 {  // pairs of tokens interleaved
  static float at(const std::byte* v, std::size_t token, std::size_t channel, std::size_t width) {
    return bf16_to_f32(load<std::uint16_t>(v, (token / 2 * width + channel) * 2 + token % 2));
  }
};

template <class Format>
void score_rows(const float* q, KvPart rows, BlockShape shape, ScoreTile scores) {
  for (std::size_t i = 0; i < scores.n_q; ++i) {
    const float* query = q + i * shape.head_dim;
    for (std::size_t t = 0; t < shape.block_tokens; ++t) {
      float sum = 0;
      for (std::size_t c = 0; c < shape.head_dim; ++c) {
        sum += query[c] * Format::at(rows.data, t, c, shape.head_dim);
      }
      scores.data[i * scores.stride + t] = sum;
    }
  }
}

}  // namespace

void row_scores_f32(const float* q, KvPart rows, BlockShape shape, ScoreTile scores) {
  score_rows<F32>(q, rows, shape, scores);
}
void row_scores_f16(const float* q, KvPart rows, BlockShape shape, ScoreTile scores) {
  score_rows<F16>(q, rows, shape, scores);
}
void row_scores_bf16(const float* q, KvPart rows, BlockShape shape, ScoreTile scores) {
  score_rows<Bf16>(q, rows, shape, scores);
}

}  // namespace larder::simd::scalar
