// Which of the functions made for some numbers is called.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace larder::simd {
namespace {  // not shared between instruction sets

/// f(integral_constant n) of the number that n is, the last one if it is none of the others.
template <int kFirst, int... kOthers, class F>
[[maybe_unused]] inline decltype(auto) by_number(std::size_t n, F&& f) {
  if constexpr (sizeof...(kOthers) > 0) {
    if (n != kFirst) return by_number<kOthers...>(n, f);
  }
  return f(std::integral_constant<int, kFirst>{});
}

/// Of codes (simd/code_book.h) of n bits.
template <class F>
[[maybe_unused]] inline decltype(auto) by_bits(std::uint32_t n, F&& f) {
  return by_number<2, 3, 4, 5, 8>(n, f);
}

/// The same of codes that are bytes.
template <class F>
[[maybe_unused]] inline decltype(auto) by_byte_bits(std::uint32_t n, F&& f) {
  return by_number<2, 3, 4, 5>(n, f);
}

/// The same with CodeFit::range.
template <class F>
[[maybe_unused]] inline decltype(auto) by_range_bits(std::uint32_t n, F&& f) {
  return by_number<2, 4, 8>(n, f);
}

}  // namespace
}  // namespace larder::simd
