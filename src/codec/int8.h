// int8 with one scale per token and head: a sign and 7 bits of magnitude, 8 + 16 / head_dim bits
// per element. 127 times the scale is the largest magnitude of the row.
#pragma once

#include "codec/kv_codec.h"

namespace larder {

const KvCodec& int8_codec() noexcept;

}  // namespace larder
