// Tables of rot2 to rot5 against the density they are made for, by integration.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "codec/kv_codec.h"
#include "simd/code_book.h"

namespace larder {
namespace {

/// What remains of the square of x, distributed as N(0, 1), when a code of `book` stands for it,
/// with the best scale for all of them.
double relative_error(const simd::CodeBook& book) {
  constexpr double kStep = 1e-4, kEnd = 8;
  const std::size_t n = std::size_t{1} << book.bits;
  double xx = 0, xv = 0, vv = 0;
  for (double x = -kEnd + kStep / 2; x < kEnd; x += kStep) {
    const double p = std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi) * kStep;
    const float* const bound =
        std::lower_bound(book.bounds, book.bounds + n - 1, static_cast<float>(x));
    const double v = simd::byte_of(book, static_cast<std::size_t>(bound - book.bounds));
    xx += p * x * x;
    xv += p * x * v;
    vv += p * v * v;
  }
  return (xx - xv * xv / vv) / xx;
}

TEST(NormalBooks, LoseNoMoreThanLloydAndMax) {
  const struct {
    KvFormat format;
    double lloyd_max, more;  // of real numbers, and what integers may add
  } cases[] = {{KvFormat::rot2, 0.11748, 1e-3},
               {KvFormat::rot3, 0.034548, 1e-3},
               {KvFormat::rot4, 0.009501, 1e-3},
               {KvFormat::rot5, 0.002505, 7e-3}};
  for (const auto& c : cases) {
    const KvCodec& codec = kv_codec(c.format);
    const double error = relative_error(*codec.codes);
    EXPECT_LE(error, c.lloyd_max * (1 + c.more)) << codec.name;
    EXPECT_GE(error, c.lloyd_max * (1 - 1e-3)) << codec.name;
  }
}

}  // namespace
}  // namespace larder
