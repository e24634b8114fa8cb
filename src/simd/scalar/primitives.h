// The reference set: portable C++, always built. Contracts of the functions: simd/simd.h.
#pragma once

#include "simd/simd.h"

namespace larder::simd::scalar {

float dot(const float* a, const float* b, std::size_t n);
void axpy(float a, const float* x, float* y, std::size_t n);
void scale(float a, float* x, std::size_t n);
void multiply(const float* x, float* y, std::size_t n);
float sum_squares(const float* x, std::size_t n);
float max(const float* x, std::size_t n);

float exp_shift_sum(float* x, float shift, std::size_t n, Upcoming next);
void silu_mul(const float* gate, const float* up, float* out, std::size_t n);
void gelu_tanh_mul(const float* gate, const float* up, float* out, std::size_t n);
void tanh_cap(float* x, float cap, std::size_t n);

void quantize_q8(const float* x, std::size_t n_rows, const Q8Rows& rows);

void linear_f32(const WeightRows& w, const float* x, std::size_t n_x, float* out,
                std::size_t ld_out);
void linear_f16(const WeightRows& w, const float* x, std::size_t n_x, float* out,
                std::size_t ld_out);
void linear_bf16(const WeightRows& w, const float* x, std::size_t n_x, float* out,
                 std::size_t ld_out);

void linear_q8_0(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out);
void linear_q4_0(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out);
void linear_q4_1(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out);
void linear_q5_0(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out);
void linear_q5_1(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out);
void linear_q4_k(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out);
void linear_q5_k(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out);
void linear_q6_k(const WeightRows& w, const Q8Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out);

void packed_q8_0(const PackedRows& w, const Q8Tiles& x, std::size_t n_x, float* out,
                 std::size_t ld_out);
void packed_q4_0(const PackedRows& w, const Q8Tiles& x, std::size_t n_x, float* out,
                 std::size_t ld_out);
void round_bf16(const float* x, std::size_t n_rows, std::size_t n_cols, const Bf16Rows& rows);
void packed_bf16(const PackedRows& w, const Bf16Rows& x, std::size_t n_x, float* out,
                 std::size_t ld_out);

extern const Table kTable;

}  // namespace larder::simd::scalar
