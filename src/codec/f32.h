// Rows as they were computed: 4 bytes per element, exact. The yardstick of the other formats.
#pragma once

#include "codec/kv_codec.h"

namespace larder {

const KvCodec& f32_codec() noexcept;

}  // namespace larder
