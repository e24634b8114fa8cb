#include "codec/int8.h"

#include "codec/coded_rows.h"
#include "codec/integer_book.h"

namespace larder {
namespace {

constexpr simd::CodeBook kBook = make_int8_book();
constexpr KvCodec kCodec = CodedRows<kBook>::codec(KvFormat::int8, "int8", false);

}  // namespace

const KvCodec& int8_codec() noexcept { return kCodec; }

}  // namespace larder
