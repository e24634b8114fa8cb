// bfloat16: 2 bytes per element, the range of float, 8 bits of significand. Pairs stand
// interleaved, so that a 32-bit lane holds two values and one shift or mask makes a float of
// either.
#pragma once

#include "codec/kv_codec.h"

namespace larder {

const KvCodec& bf16_codec() noexcept;

}  // namespace larder
