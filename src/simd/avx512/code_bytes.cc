// Parts of codes that stand for bytes: multiplied as they are, and unpacked to byte parts.
#include "simd/avx512/byte_arithmetic.h"
#include "simd/avx512/codes.h"

namespace larder::simd::avx512 {

void unpack_codes_k(const CodeBook& book, const std::byte* part, BlockShape shape,
                    std::byte* bytes) {
  unpack_codes<Arithmetic>(book, part, shape, true, bytes);
}

void unpack_codes_v(const CodeBook& book, const std::byte* part, BlockShape shape,
                    std::byte* bytes) {
  unpack_codes<Arithmetic>(book, part, shape, false, bytes);
}

void run_scores_code_bytes(const CodeBook& book, const float* q, const KvRun& k, BlockShape shape,
                           ScoreTile scores) {
  score_codes<Arithmetic>(book, q, k, shape, scores);
}

void run_accumulate_code_bytes(const CodeBook& book, ScoreTile weights, const KvRun& v,
                               BlockShape shape, std::uint32_t n_tokens, float* out) {
  accumulate_codes<Arithmetic>(book, weights, v, shape, n_tokens, out);
}

}  // namespace larder::simd::avx512
