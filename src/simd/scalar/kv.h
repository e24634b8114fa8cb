// Attention primitives over KV blocks for the scalar set; contracts in simd/simd.h, layouts in
// codec/kv_codec.h.
#pragma once

#include "simd/simd.h"

namespace larder::simd::scalar {

void scores_f32(const float* q, KvPart k, BlockShape shape, ScoreTile scores);
void scores_f16(const float* q, KvPart k, BlockShape shape, ScoreTile scores);
void scores_bf16(const float* q, KvPart k, BlockShape shape, ScoreTile scores);

void accumulate_f32(ScoreTile weights, KvPart v, BlockShape shape, std::uint32_t n_tokens,
                    float* out);
void accumulate_f16(ScoreTile weights, KvPart v, BlockShape shape, std::uint32_t n_tokens,
                    float* out);
void accumulate_bf16(ScoreTile weights, KvPart v, BlockShape shape, std::uint32_t n_tokens,
                     float* out);

void fetch_lines(const std::byte* data, std::size_t n);

}  // namespace larder::simd::scalar
