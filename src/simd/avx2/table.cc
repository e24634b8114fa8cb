#include "simd/avx2/bounds.h"
#include "simd/avx2/codes.h"
#include "simd/avx2/ggml_rows.h"
#include "simd/avx2/hadamard.h"
#include "simd/avx2/integer_rows.h"
#include "simd/avx2/kv.h"
#include "simd/avx2/primitives.h"
#include "simd/avx2/row_scores.h"
#include "simd/kv_run.h"
#include "simd/scalar/ggml_rows.h"
#include "simd/scalar/key_turn.h"

namespace larder::simd::avx2 {

// Constant-initialised: this file's flags never produce code that runs before the choice.
constinit const Table kTable = {
    .name = "avx2",
    .dot = dot,
    .axpy = axpy,
    .scale = scale,
    .multiply = multiply,
    .sum_squares = sum_squares,
    .max = max,
    .exp_shift_sum = exp_shift_sum,
    .silu_mul = silu_mul,
    .gelu_tanh_mul = gelu_tanh_mul,
    .tanh_cap = tanh_cap,
    .hadamard = hadamard,
    .quantize_q8 = quantize_q8,
    .linear_f32 = linear_f32,
    .linear_f16 = linear_f16,
    .linear_bf16 = linear_bf16,
    .linear_q8_0 = linear_q8_0,
    .linear_q4_0 = linear_q4_0,
    .linear_q4_1 = linear_q4_1,
    .linear_q5_0 = linear_q5_0,
    .linear_q5_1 = linear_q5_1,
    .linear_q4_k = linear_q4_k,
    .linear_q5_k = linear_q5_k,
    .linear_q6_k = linear_q6_k,
    .packed_q8_0 = packed_q8_0,
    .packed_q4_0 = packed_q4_0,
    .round_bf16 = round_bf16,
    .packed_bf16 = packed_bf16,
    .tile_q8_matrix = nullptr,
    .packed_q8_0_matrix = nullptr,
    .packed_q4_0_matrix = nullptr,
    .tile_bf16_matrix = nullptr,
    .packed_bf16_matrix = nullptr,
    .scores_f32 = scores_f32,
    .scores_f16 = scores_f16,
    .scores_bf16 = scores_bf16,
    .accumulate_f32 = accumulate_f32,
    .accumulate_f16 = accumulate_f16,
    .accumulate_bf16 = accumulate_bf16,
    .row_scores_f32 = row_scores_f32,
    .row_scores_f16 = row_scores_f16,
    .row_scores_bf16 = row_scores_bf16,
    .run_scores_f32 = scores_by_block<scores_f32>,
    .run_scores_f16 = scores_by_block<scores_f16>,
    .run_scores_bf16 = scores_by_block<scores_bf16>,
    .run_accumulate_f32 = accumulate_by_block<accumulate_f32>,
    .run_accumulate_f16 = accumulate_by_block<accumulate_f16>,
    .run_accumulate_bf16 = accumulate_by_block<accumulate_bf16>,
    .encode_codes_k = encode_codes_k,
    .encode_codes_v = encode_codes_v,
    .decode_codes_k = decode_codes_k,
    .decode_codes_v = decode_codes_v,
    .encode_q8_0_k = scalar::encode_q8_0_k,
    .encode_q8_0_v = scalar::encode_q8_0_v,
    .encode_q4_0_k = scalar::encode_q4_0_k,
    .encode_q4_0_v = scalar::encode_q4_0_v,
    .decode_q8_0_k = decode_q8_0_k,
    .decode_q8_0_v = decode_q8_0_v,
    .decode_q4_0_k = decode_q4_0_k,
    .decode_q4_0_v = decode_q4_0_v,
    .unpack_q8_0_k = unpack_q8_0_k,
    .unpack_q8_0_v = unpack_q8_0_v,
    .unpack_q4_0_k = unpack_q4_0_k,
    .unpack_q4_0_v = unpack_q4_0_v,
    .run_scores_integers = run_scores_integers,
    .run_accumulate_integers = run_accumulate_integers,
    .run_scores_q8_0 = nullptr,
    .run_scores_q4_0 = nullptr,
    .run_accumulate_q8_0 = nullptr,
    .run_accumulate_q4_0 = nullptr,
    .turn_keys = scalar::turn_keys,
    .turn_back_keys = scalar::turn_back_keys,
    .pack_codes_k = scalar::pack_codes_k,
    .read_halves = read_halves,
    .run_scores_codes = run_scores_codes,
    .run_accumulate_codes = run_accumulate_codes,
    .fetch = fetch_lines,
    .run_queries = 12,
    .rounds_bf16 = false,
    .bound_scores = bound_scores,
};

}  // namespace larder::simd::avx2
