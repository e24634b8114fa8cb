#include "codec/fp8.h"

#include "codec/code_books.h"
#include "codec/coded_rows.h"

namespace larder {
namespace {

constexpr simd::CodeBook make_e4m3_book() {
  std::array<float, 127> magnitudes{};  // code 127 would be NaN
  float unit = 0x1p-9F;                 // of the last place
  for (std::size_t i = 0; i < magnitudes.size(); ++i) {
    if (i >= 16 && i % 8 == 0) unit *= 2;
    magnitudes[i] = unit * static_cast<float>(i < 8 ? i : 8 + i % 8);
  }
  return make_book(8, simd::CodeFit::largest, magnitudes);
}

constexpr simd::CodeBook kBook = make_e4m3_book();
static_assert(bf16_to_f32(kBook.values[126]) == 448 && bf16_to_f32(kBook.values[8]) == 0x1p-6F);
constexpr KvCodec kCodec = CodedRows<kBook>::codec(KvFormat::fp8, "fp8", false);

}  // namespace

const KvCodec& fp8_codec() noexcept { return kCodec; }

}  // namespace larder
