// e4m3 floats (the OCP 8-bit format without infinities) with one scale per token and head, 8 + 16 /
// head_dim bits per element: the largest magnitude of the row becomes 448.
#pragma once

#include "codec/kv_codec.h"

namespace larder {

const KvCodec& fp8_codec() noexcept;

}  // namespace larder
