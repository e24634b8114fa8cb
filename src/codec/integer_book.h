// The table of 8-bit integers, plain and rotated.
#pragma once

#include "codec/code_books.h"

namespace larder {

constexpr simd::CodeBook make_int8_book() {
  std::array<float, 128> magnitudes{};
  for (std::size_t i = 0; i < 128; ++i) magnitudes[i] = static_cast<float>(i);
  simd::CodeBook book = make_book(8, simd::CodeFit::largest, magnitudes);
  book.search = simd::CodeSearch::integer;
  return book;
}

}  // namespace larder
