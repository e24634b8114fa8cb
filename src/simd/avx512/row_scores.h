// Scores against rows stored as V is, for the avx512 set; contract in simd/simd.h.
#pragma once

#include "simd/simd.h"

namespace larder::simd::avx512 {

void row_scores_f32(const float* q, KvPart rows, BlockShape shape, ScoreTile scores);
void row_scores_f16(const float* q, KvPart rows, BlockShape shape, ScoreTile scores);
void row_scores_bf16(const float* q, KvPart rows, BlockShape shape, ScoreTile scores);

}  // namespace larder::simd::avx512
