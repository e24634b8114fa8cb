// KV blocks for the amx set; contracts in simd/simd.h.
#pragma once

#include "simd/simd.h"

namespace larder::simd::amx {

void run_scores_bf16(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores);
void run_accumulate_bf16(ScoreTile weights, const KvRun& v, BlockShape shape,
                         std::uint32_t n_tokens, float* out);
// Of f16 rows, see simd/amx/kv_split.h.
void run_scores_f16(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores);
void run_accumulate_f16(ScoreTile weights, const KvRun& v, BlockShape shape, std::uint32_t n_tokens,
                        float* out);
void run_scores_codes(const CodeBook& book, const float* q, const KvRun& k, BlockShape shape,
                      ScoreTile scores);
void run_accumulate_codes(const CodeBook& book, ScoreTile weights, const KvRun& v, BlockShape shape,
                          std::uint32_t n_tokens, float* out);
/// Of codes that are bytes.
void run_scores_code_bytes(const CodeBook& book, const float* q, const KvRun& k, BlockShape shape,
                           ScoreTile scores);
void run_accumulate_code_bytes(const CodeBook& book, ScoreTile weights, const KvRun& v,
                               BlockShape shape, std::uint32_t n_tokens, float* out);

// Of rows of bytes, see simd/byte_rows.h.
void run_scores_bytes(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores);
void run_accumulate_bytes(ScoreTile weights, const KvRun& v, BlockShape shape,
                          std::uint32_t n_tokens, float* out);

// Of ggml blocks. Unpacked parts have bf16 numbers for the integers of integer parts.
void unpack_q8_0_k(const std::byte* part, BlockShape shape, std::byte* to);
void unpack_q8_0_v(const std::byte* part, BlockShape shape, std::byte* to);
void unpack_q4_0_k(const std::byte* part, BlockShape shape, std::byte* to);
void unpack_q4_0_v(const std::byte* part, BlockShape shape, std::byte* to);
void run_scores_unpacked(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores);
void run_scores_q8_0(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores);
void run_scores_q4_0(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores);
void run_accumulate_unpacked(ScoreTile weights, const KvRun& v, BlockShape shape,
                             std::uint32_t n_tokens, float* out);
void run_accumulate_q8_0(ScoreTile weights, const KvRun& v, BlockShape shape,
                         std::uint32_t n_tokens, float* out);
void run_accumulate_q4_0(ScoreTile weights, const KvRun& v, BlockShape shape,
                         std::uint32_t n_tokens, float* out);

}  // namespace larder::simd::amx
