#include "codec/int4.h"

#include "codec/code_books.h"
#include "codec/coded_rows.h"

namespace larder {
namespace {

constexpr simd::CodeBook kBook =
    make_book(4, simd::CodeFit::largest,
              std::array<float, 16>{-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7});
constexpr KvCodec kCodec = CodedRows<kBook>::codec(KvFormat::int4, "int4", false);

}  // namespace

const KvCodec& int4_codec() noexcept { return kCodec; }

}  // namespace larder
