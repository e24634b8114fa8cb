// Which of the functions made for each number of bits of a code is called.
#pragma once

#include <cstdint>
#include <type_traits>

namespace larder::simd {
namespace {  // not shared between instruction sets

/// f(integral_constant n) for codes of n bits (simd/code_book.h).
template <class F>
[[maybe_unused]] inline decltype(auto) by_bits(std::uint32_t n, F&& f) {
  switch (n) {
    case 2:
      return f(std::integral_constant<int, 2>{});
    case 3:
      return f(std::integral_constant<int, 3>{});
    case 4:
      return f(std::integral_constant<int, 4>{});
    case 5:
      return f(std::integral_constant<int, 5>{});
    default:
      return f(std::integral_constant<int, 8>{});
  }
}

/// The same of codes that are bytes.
template <class F>
[[maybe_unused]] inline decltype(auto) by_byte_bits(std::uint32_t n, F&& f) {
  switch (n) {
    case 2:
      return f(std::integral_constant<int, 2>{});
    case 3:
      return f(std::integral_constant<int, 3>{});
    case 4:
      return f(std::integral_constant<int, 4>{});
    default:
      return f(std::integral_constant<int, 5>{});
  }
}

/// The same with CodeFit::range.
template <class F>
[[maybe_unused]] inline decltype(auto) by_range_bits(std::uint32_t n, F&& f) {
  switch (n) {
    case 2:
      return f(std::integral_constant<int, 2>{});
    case 4:
      return f(std::integral_constant<int, 4>{});
    default:
      return f(std::integral_constant<int, 8>{});
  }
}

}  // namespace
}  // namespace larder::simd
