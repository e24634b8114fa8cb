// Element types of tensors and how many bytes they take.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace larder {

/// Values are the type numbers of GGUF v3, so that a file's field converts without a table.
enum class DType : std::uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  bf16 = 30,
};

struct DTypeInfo {
  DType dtype;
  std::string_view name;      // as users write it: "q4_k"; parsing ignores case
  std::uint32_t block_elems;  // elements that share metadata; a row is a whole number of blocks
  std::uint32_t block_bytes;
};

/// REQUIRES: `dtype` is one of the enumerators.
const DTypeInfo& dtype_info(DType dtype) noexcept;
/// Empty when the number (from a file) names a type that Larder does not read.
std::optional<DType> dtype_from_gguf(std::uint32_t number) noexcept;
std::optional<DType> parse_dtype(std::string_view name) noexcept;

/// Bytes of one row. REQUIRES: n_elems is a multiple of the type's block_elems.
std::size_t row_bytes(DType dtype, std::size_t n_elems) noexcept;

}  // namespace larder
