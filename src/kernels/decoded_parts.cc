#include "kernels/decoded_parts.h"

namespace larder {

std::size_t DecodedParts::n_bytes() const noexcept {
  if (are_integers()) return simd::integer_part_bytes(shape_);
  return are_bytes() ? simd::byte_part_bytes(shape_) : 2 * simd::bytes_of_rows(shape_);
}

void DecodedParts::decode(const std::byte* part, std::byte* to, float* scales) const {
  if (are_integers()) {
    (is_key_ ? codec_.unpack_k : codec_.unpack_v)(simd_)(part, shape_, to);
  } else if (are_bytes()) {
    (is_key_ ? simd_.unpack_codes_k : simd_.unpack_codes_v)(*codec_.codes, part, shape_, to);
  } else {
    (is_key_ ? simd_.decode_codes_k : simd_.decode_codes_v)(*codec_.codes, part, shape_, to);
  }
  if (has_scales_apart()) {
    simd_.read_halves(part + codec_.row_scales(shape_), shape_.block_tokens, scales);
  }
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
