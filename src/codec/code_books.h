// Builds tables of codes at compile time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "simd/code_book.h"
#include "tensor/half.h"

namespace larder {

/// `values` [n] ascending, rounded to bf16; below 8 bits n = 2^bits, of 8 bits n <= 128 magnitudes.
/// Codes beyond n repeat the largest value and are never chosen.
template <std::size_t n>
constexpr simd::CodeBook make_book(std::uint32_t bits, simd::CodeFit fit,
                                   const std::array<float, n>& values) {
  simd::CodeBook book{};
  book.bits = bits;
  book.fit = fit;
  for (std::size_t i = 0; i < 128; ++i) {
    const std::size_t code = bits < 8 ? i % n : i;
    book.values[i] = f32_to_bf16(values[code < n ? code : n - 1]);
  }
  for (std::size_t i = 0; i < 127; ++i) {
    const float low = bf16_to_f32(book.values[i]), high = bf16_to_f32(book.values[i + 1]);
    book.bounds[i] = i + 1 < n ? (low + high) / 2 : std::numeric_limits<float>::infinity();
  }
  return book;
}

/// Codes of 8 bits that are their own values (simd::codes_are_values).
constexpr simd::CodeBook make_byte_range_book() {
  simd::CodeBook book{};
  book.bits = 8;
  book.fit = simd::CodeFit::range;
  return book;
}

/// A table of N(0, 1) with the mirror image of `half`, its positive values ascending, in units of
/// `unit`.
template <std::size_t n>
constexpr simd::CodeBook make_normal_book(std::uint32_t bits, float unit,
                                          const std::array<std::int8_t, n>& half) {
  std::array<float, 2 * n> values{};
  for (std::size_t i = 0; i < n; ++i) {
    values[n + i] = half[i];
    values[n - 1 - i] = -values[n + i];
  }
  simd::CodeBook book = make_book(bits, simd::CodeFit::norm, values);
  for (float& bound : book.bounds) bound *= unit;
  return book;
}

}  // namespace larder
