// IEEE half precision: 2 bytes per element, 11 bits of significand, beyond 65504 infinite.
#pragma once

#include "codec/kv_codec.h"

namespace larder {

const KvCodec& f16_codec() noexcept;

}  // namespace larder
