// Parts of ggml blocks multiplied by integers, for the avx512 set. Contracts in simd/simd.h,
// arithmetic and layout in simd/integer_rows.h.
#pragma once

#include "simd/simd.h"

namespace larder::simd::avx512 {

void unpack_q8_0_k(const std::byte* part, BlockShape shape, std::byte* integers);
void unpack_q8_0_v(const std::byte* part, BlockShape shape, std::byte* integers);
void unpack_q4_0_k(const std::byte* part, BlockShape shape, std::byte* integers);
void unpack_q4_0_v(const std::byte* part, BlockShape shape, std::byte* integers);

void run_scores_integers(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores);
void run_scores_q8_0(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores);
void run_scores_q4_0(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores);
void run_accumulate_integers(ScoreTile weights, const KvRun& v, BlockShape shape,
                             std::uint32_t n_tokens, float* out);
void run_accumulate_q8_0(ScoreTile weights, const KvRun& v, BlockShape shape,
                         std::uint32_t n_tokens, float* out);
void run_accumulate_q4_0(ScoreTile weights, const KvRun& v, BlockShape shape,
                         std::uint32_t n_tokens, float* out);

}  // namespace larder::simd::avx512
