#include "codec/int8.h"

#include "codec/byte_rows.h"

namespace larder {
namespace {

constexpr KvCodec kCodec = ByteRows::codec(KvFormat::int8, "int8", false);

}  // namespace

const KvCodec& int8_codec() noexcept { return kCodec; }

}  // namespace larder
