// Rows as ggml stores them: blocks of 32 elements with a scale each, the bytes of its q8_0 and
// q4_0.
#pragma once

#include "codec/kv_codec.h"

namespace larder {

const KvCodec& q8_0_codec() noexcept;
const KvCodec& q4_0_codec() noexcept;

}  // namespace larder
