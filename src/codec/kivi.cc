#include "codec/kivi.h"

#include "codec/code_books.h"
#include "codec/coded_rows.h"

namespace larder {
namespace {

constexpr simd::CodeBook kBook8 = make_byte_range_book();
constexpr simd::CodeBook kBook4 =
    make_book(4, simd::CodeFit::range,
              std::array<float, 16>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15});
constexpr simd::CodeBook kBook2 =
    make_book(2, simd::CodeFit::range, std::array<float, 4>{0, 1, 2, 3});
constexpr KvCodec kKivi8 = CodedRows<kBook8>::codec(KvFormat::kivi8, "kivi8", false);
constexpr KvCodec kKivi4 = CodedRows<kBook4>::codec(KvFormat::kivi4, "kivi4", false);
constexpr KvCodec kKivi2 = CodedRows<kBook2>::codec(KvFormat::kivi2, "kivi2", false);

}  // namespace

const KvCodec& kivi8_codec() noexcept { return kKivi8; }
const KvCodec& kivi4_codec() noexcept { return kKivi4; }
const KvCodec& kivi2_codec() noexcept { return kKivi2; }

}  // namespace larder
