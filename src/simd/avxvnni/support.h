// The avxvnni set: avx2 with VPDPBUSD of eight lanes, which processors without AVX-512 have.
#pragma once

#include "simd/simd.h"

namespace larder::simd::avxvnni {

/// The avx2 table with what this set does better. REQUIRES: the processor has AVX-VNNI.
Table make_table(const Table& avx2) noexcept;

// Of rows of bytes and of codes, see simd/simd.h.
void run_scores_bytes(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores);
void run_accumulate_bytes(ScoreTile weights, const KvRun& v, BlockShape shape,
                          std::uint32_t n_tokens, float* out);
void run_scores_codes(const CodeBook& book, const float* q, const KvRun& k, BlockShape shape,
                      ScoreTile scores);
void run_accumulate_codes(const CodeBook& book, ScoreTile weights, const KvRun& v, BlockShape shape,
                          std::uint32_t n_tokens, float* out);

}  // namespace larder::simd::avxvnni
