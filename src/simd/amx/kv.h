// KV blocks for the amx set; contracts in simd/simd.h.
#pragma once

#include "simd/simd.h"

namespace larder::simd::amx {

void run_scores_bf16(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores);
void run_accumulate_bf16(ScoreTile weights, const KvRun& v, BlockShape shape,
                         std::uint32_t n_tokens, float* out);
void run_scores_codes(const CodeBook& book, const float* q, const KvRun& k, BlockShape shape,
                      ScoreTile scores);
void run_accumulate_codes(const CodeBook& book, ScoreTile weights, const KvRun& v, BlockShape shape,
                          std::uint32_t n_tokens, float* out);

}  // namespace larder::simd::amx
