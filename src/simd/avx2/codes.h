// Blocks of codes for the avx2 set; contracts in simd/simd.h, layout in simd/code_book.h.
#pragma once

#include "simd/simd.h"

namespace larder::simd::avx2 {

void encode_codes_k(const CodeBook& book, const std::byte* bf16, BlockShape shape, std::byte* part);
void encode_codes_v(const CodeBook& book, const std::byte* bf16, BlockShape shape, std::byte* part);
/// These with CodeFit::range.
void encode_ranges_k(const CodeBook& book, const std::byte* bf16, BlockShape shape,
                     std::byte* part);
void encode_ranges_v(const CodeBook& book, const std::byte* bf16, BlockShape shape,
                     std::byte* part);
void decode_codes_k(const CodeBook& book, const std::byte* part, BlockShape shape, std::byte* bf16);
void decode_codes_v(const CodeBook& book, const std::byte* part, BlockShape shape, std::byte* bf16);
void unpack_codes_k(const CodeBook& book, const std::byte* part, BlockShape shape,
                    std::byte* bytes);
void unpack_codes_v(const CodeBook& book, const std::byte* part, BlockShape shape,
                    std::byte* bytes);
void read_halves(const std::byte* halves, std::size_t n, float* out);
void run_scores_codes(const CodeBook& book, const float* q, const KvRun& k, BlockShape shape,
                      ScoreTile scores);
void run_accumulate_codes(const CodeBook& book, ScoreTile weights, const KvRun& v, BlockShape shape,
                          std::uint32_t n_tokens, float* out);
/// These of codes that are bytes.
void run_scores_code_bytes(const CodeBook& book, const float* q, const KvRun& k, BlockShape shape,
                           ScoreTile scores);
void run_accumulate_code_bytes(const CodeBook& book, ScoreTile weights, const KvRun& v,
                               BlockShape shape, std::uint32_t n_tokens, float* out);

}  // namespace larder::simd::avx2
