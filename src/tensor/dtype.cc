#include "tensor/dtype.h"

#include <algorithm>
#include <array>

#include "base/check.h"

namespace larder {
namespace {

constexpr std::array<DTypeInfo, 11> kTypes{{
    {DType::f32, "f32", 1, 4},
    {DType::f16, "f16", 1, 2},
    {DType::bf16, "bf16", 1, 2},
    {DType::q8_0, "q8_0", 32, 34},
    {DType::q4_0, "q4_0", 32, 18},
    {DType::q4_1, "q4_1", 32, 20},
    {DType::q5_0, "q5_0", 32, 22},
    {DType::q5_1, "q5_1", 32, 24},
    {DType::q4_k, "q4_k", 256, 144},
    {DType::q5_k, "q5_k", 256, 176},
    {DType::q6_k, "q6_k", 256, 210},
}};

constexpr char lower(char c) noexcept {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

}  // namespace

const DTypeInfo& dtype_info(DType dtype) noexcept {
  const auto it = std::find_if(kTypes.begin(), kTypes.end(),
                               [&](const DTypeInfo& info) { return info.dtype == dtype; });
  LARDER_CHECK(it != kTypes.end());
  return *it;
}

std::optional<DType> dtype_from_gguf(std::uint32_t number) noexcept {
  for (const DTypeInfo& info : kTypes) {
    if (static_cast<std::uint32_t>(info.dtype) == number) return info.dtype;
  }
  return std::nullopt;
}

std::optional<DType> parse_dtype(std::string_view name) noexcept {
  for (const DTypeInfo& info : kTypes) {
    if (std::equal(name.begin(), name.end(), info.name.begin(), info.name.end(),
                   [](char a, char b) { return lower(a) == b; })) {
      return info.dtype;
    }
  }
  return std::nullopt;
}

std::size_t row_bytes(DType dtype, std::size_t n_elems) noexcept {
  const DTypeInfo& info = dtype_info(dtype);
  LARDER_DCHECK(n_elems % info.block_elems == 0);
  return n_elems / info.block_elems * info.block_bytes;
}

}  // namespace larder
