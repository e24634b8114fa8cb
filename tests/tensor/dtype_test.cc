#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace larder {
namespace {

constexpr DType kAll[] = {DType::f32,  DType::f16,  DType::bf16, DType::q8_0,
                          DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1,
                          DType::q4_k, DType::q5_k, DType::q6_k};

TEST(DType, NumbersAndNamesConvertBothWays) {
  for (const DType dtype : kAll) {
    const DTypeInfo& info = dtype_info(dtype);
    EXPECT_EQ(info.dtype, dtype);
    EXPECT_EQ(dtype_from_gguf(static_cast<std::uint32_t>(dtype)), dtype);
    EXPECT_EQ(parse_dtype(info.name), dtype);
  }
}

TEST(DType, ParsingIgnoresCaseAndRefusesTheRest) {
  EXPECT_EQ(parse_dtype("Q4_K"), DType::q4_k);
  EXPECT_EQ(parse_dtype("BF16"), DType::bf16);
  for (const char* name : {"", "q4", "q4_k_m", "q4_k ", "f64", "q8"}) {
    EXPECT_EQ(parse_dtype(name), std::nullopt) << name;
  }
}

TEST(DType, UnreadNumbersAreRefused) {
  for (const std::uint32_t number : {4U, 5U, 9U, 10U, 16U, 23U, 24U, 29U, 31U, 0xffffffffU}) {
    EXPECT_EQ(dtype_from_gguf(number), std::nullopt) << number;
  }
}

TEST(DType, RowBytes) {
  EXPECT_EQ(row_bytes(DType::f32, 3), 12U);
  EXPECT_EQ(row_bytes(DType::bf16, 3), 6U);
  EXPECT_EQ(row_bytes(DType::q8_0, 64), 68U);
  EXPECT_EQ(row_bytes(DType::q4_0, 64), 36U);
  EXPECT_EQ(row_bytes(DType::q5_1, 32), 24U);
  EXPECT_EQ(row_bytes(DType::q4_k, 512), 288U);
  EXPECT_EQ(row_bytes(DType::q6_k, 0), 0U);
}

}  // namespace
}  // namespace larder
