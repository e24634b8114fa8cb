// int8 with one scale per token and head, -127 to 127 (simd/byte_rows.h): 8 + 16 / head_dim bits
// per element.
#pragma once

#include "codec/kv_codec.h"

namespace larder {

const KvCodec& int8_codec() noexcept;

}  // namespace larder
