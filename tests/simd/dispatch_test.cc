#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "simd/simd.h"

namespace larder::simd {
namespace {

TEST(Dispatch, ScalarFirstAndBestLast) {
  ASSERT_FALSE(available().empty());
  EXPECT_EQ(available().front(), &scalar_table());
  EXPECT_EQ(available().back(), &best());
  EXPECT_EQ(scalar_table().name, "scalar");
}

#if defined(__x86_64__) && defined(__GNUC__)
// GCC 12 cannot be asked for AVX-VNNI and AMX. The system lists what it keeps the registers of; it
// may still refuse to give them out.
bool system_has(const std::vector<std::string>& flags) {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (!line.starts_with("flags")) continue;
    return std::all_of(flags.begin(), flags.end(), [&](const std::string& flag) {
      return line.find(flag) != std::string::npos;
    });
  }
  return false;
}

TEST(Dispatch, AgreesWithTheCompilersView) {
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vbmi") &&
                      __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
  const bool avxvnni = avx2 && system_has({"avx_vnni"});
  const bool amx = avx512 && system_has({"amx_tile", "amx_int8", "amx_bf16"});
  std::vector<std::string_view> expected{"scalar"}, names;
  if (avx2) expected.emplace_back("avx2");
  if (avxvnni) expected.emplace_back("avxvnni");
  if (avx512) expected.emplace_back("avx512");
  if (amx) expected.emplace_back("amx");
  for (const Table* table : available()) names.push_back(table->name);
  EXPECT_EQ(names, expected);
}
#endif

TEST(Dispatch, EveryEntryIsFilled) {
  for (const Table* t : available()) {
    EXPECT_TRUE(t->dot && t->axpy && t->scale && t->sum_squares && t->max && t->multiply)
        << t->name;
    EXPECT_TRUE(t->exp_shift_sum && t->silu_mul && t->gelu_tanh_mul && t->tanh_cap) << t->name;
    EXPECT_TRUE(t->quantize_q8 && t->linear_f32 && t->linear_f16 && t->linear_bf16) << t->name;
    EXPECT_TRUE(t->linear_q8_0 && t->linear_q4_0 && t->linear_q4_1 && t->linear_q5_0) << t->name;
    EXPECT_TRUE(t->linear_q5_1 && t->linear_q4_k && t->linear_q5_k && t->linear_q6_k) << t->name;
    EXPECT_TRUE(t->scores_f32 && t->scores_f16 && t->scores_bf16) << t->name;
    EXPECT_TRUE(t->accumulate_f32 && t->accumulate_f16 && t->accumulate_bf16) << t->name;
    EXPECT_TRUE(t->row_scores_f32 && t->row_scores_f16 && t->row_scores_bf16) << t->name;
    EXPECT_TRUE(t->run_scores_f32 && t->run_scores_f16 && t->run_scores_bf16) << t->name;
    EXPECT_TRUE(t->run_accumulate_f32 && t->run_accumulate_f16 && t->run_accumulate_bf16)
        << t->name;
    EXPECT_TRUE(t->packed_q8_0 && t->packed_q4_0 && t->packed_bf16 && t->round_bf16) << t->name;
    EXPECT_EQ(t->tile_q8_matrix == nullptr, t->packed_q8_0_matrix == nullptr) << t->name;
    EXPECT_EQ(t->tile_q8_matrix == nullptr, t->packed_q4_0_matrix == nullptr) << t->name;
    EXPECT_EQ(t->tile_q8_matrix == nullptr, t->tile_bf16_matrix == nullptr) << t->name;
    EXPECT_EQ(t->tile_q8_matrix == nullptr, t->packed_bf16_matrix == nullptr) << t->name;
    EXPECT_TRUE(t->encode_codes_k && t->encode_codes_v && t->decode_codes_k && t->decode_codes_v)
        << t->name;
    EXPECT_EQ(t->run_scores_codes == nullptr, t->run_accumulate_codes == nullptr) << t->name;
    EXPECT_TRUE(t->encode_q8_0_k && t->encode_q8_0_v && t->encode_q4_0_k && t->encode_q4_0_v)
        << t->name;
    EXPECT_TRUE(t->decode_q8_0_k && t->decode_q8_0_v && t->decode_q4_0_k && t->decode_q4_0_v)
        << t->name;
    EXPECT_TRUE(t->unpack_q8_0_k && t->unpack_q8_0_v && t->unpack_q4_0_k && t->unpack_q4_0_v)
        << t->name;
    EXPECT_TRUE(t->run_scores_integers && t->run_accumulate_integers) << t->name;
    EXPECT_EQ(t->run_scores_q8_0 == nullptr, t->run_accumulate_q8_0 == nullptr) << t->name;
    EXPECT_EQ(t->run_scores_q8_0 == nullptr, t->run_scores_q4_0 == nullptr) << t->name;
    EXPECT_EQ(t->run_scores_q8_0 == nullptr, t->run_accumulate_q4_0 == nullptr) << t->name;
    EXPECT_TRUE(t->fetch && t->hadamard && t->read_halves && t->bound_scores) << t->name;
  }
}

}  // namespace
}  // namespace larder::simd
