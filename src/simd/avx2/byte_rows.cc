// Runs of byte parts, as they are stored.
#include "simd/avx2/byte_rows.h"

#include "simd/avx2/byte_arithmetic.h"

namespace larder::simd::avx2 {

void run_scores_bytes(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  run_scores<Arithmetic>(StoredLines{}, q, k, shape, scores);
}

void run_accumulate_bytes(ScoreTile weights, const KvRun& v, BlockShape shape,
                          std::uint32_t n_tokens, float* out) {
  run_accumulate<Arithmetic>(StoredLines{}, weights, v, shape, n_tokens, out);
}

}  // namespace larder::simd::avx2
