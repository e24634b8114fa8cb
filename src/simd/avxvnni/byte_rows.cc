// Runs of byte parts, and of codes that stand for bytes.
#include "simd/avx2/codes.h"
#include "simd/avxvnni/byte_arithmetic.h"
#include "simd/avxvnni/support.h"

namespace larder::simd::avxvnni {

void run_scores_bytes(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  run_scores<Arithmetic>(StoredLines{}, q, k, shape, scores);
}

void run_accumulate_bytes(ScoreTile weights, const KvRun& v, BlockShape shape,
                          std::uint32_t n_tokens, float* out) {
  run_accumulate<Arithmetic>(StoredLines{}, weights, v, shape, n_tokens, out);
}

void run_scores_codes(const CodeBook& book, const float* q, const KvRun& k, BlockShape shape,
                      ScoreTile scores) {
  if (!codes_are_bytes(book)) return avx2::run_scores_codes(book, q, k, shape, scores);
  score_codes<Arithmetic>(book, q, k, shape, scores);
}

void run_accumulate_codes(const CodeBook& book, ScoreTile weights, const KvRun& v, BlockShape shape,
                          std::uint32_t n_tokens, float* out) {
  if (!codes_are_bytes(book)) {
    return avx2::run_accumulate_codes(book, weights, v, shape, n_tokens, out);
  }
  accumulate_codes<Arithmetic>(book, weights, v, shape, n_tokens, out);
}

}  // namespace larder::simd::avxvnni
