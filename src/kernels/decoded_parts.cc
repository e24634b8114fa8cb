#include "kernels/decoded_parts.h"

#include <cstring>

namespace larder {

std::size_t DecodedParts::n_bytes() const noexcept {
  constexpr std::size_t kLine = 64;  // of the cache, which no tile or vector shall straddle
  if (are_integers()) return simd::integer_part_bytes(shape_);
  if (!are_bytes()) return 2 * simd::bytes_of_rows(shape_);
  return (simd::byte_part_bytes(shape_) + kLine - 1) / kLine * kLine;
}

void DecodedParts::decode(const std::byte* part, std::byte* to, float* scales) const {
  if (are_integers()) {
    (is_key_ ? codec_.unpack_k : codec_.unpack_v)(simd_)(part, shape_, to);
  } else if (are_bytes()) {
    join(part, 0, shape_.block_tokens, to);
  } else {
    (is_key_ ? simd_.decode_codes_k : simd_.decode_codes_v)(*codec_.codes, part, shape_, to);
  }
  if (has_scales_apart()) {
    simd_.read_halves(part + codec_.row_scales(shape_), shape_.block_tokens, scales);
  }
}

bool DecodedParts::are_joined() const noexcept {
  return !is_key_ && are_bytes() && shape_.block_tokens < simd_.byte_tokens;
}

// Tokens of V stand in fours, those of K in sixteens, one behind the other: rows of parts do too.
void DecodedParts::join(const std::byte* part, std::size_t first, std::uint32_t n_rows,
                        std::byte* to) const {
  const BlockShape all{n_rows, shape_.head_dim};
  std::byte* const rows = to + first * shape_.head_dim;
  if (codec_.codes == nullptr) {
    std::memcpy(rows, part, simd::bytes_of_rows(shape_));
  } else {
    (is_key_ ? simd_.unpack_codes_k : simd_.unpack_codes_v)(*codec_.codes, part, shape_, rows);
  }
  std::memcpy(to + simd::bytes_of_rows(all) + 2 * first, part + codec_.row_scales(shape_),
              2 * std::size_t{shape_.block_tokens});
}

simd::RunScoresFn DecodedParts::run_scores() const noexcept {
  if (are_integers()) return simd_.run_scores_integers;
  return are_bytes() ? simd_.run_scores_bytes : simd_.run_scores_bf16;
}

simd::RunAccumulateFn DecodedParts::run_accumulate() const noexcept {
  if (are_integers()) return simd_.run_accumulate_integers;
  return are_bytes() ? simd_.run_accumulate_bytes : simd_.run_accumulate_bf16;
}

}  // namespace larder
