// 4-bit integers with one scale per token and head: 4 + 16 / head_dim bits per element. Seven times
// the scale is the largest magnitude of the row.
#pragma once

#include "codec/kv_codec.h"

namespace larder {

const KvCodec& int4_codec() noexcept;

}  // namespace larder
