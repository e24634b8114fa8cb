// KIVI: 8, 4 and 2 bits, scale and zero of keys per channel of a block, of values per row
// (arXiv:2402.02750).
#pragma once

#include "codec/kv_codec.h"

namespace larder {

const KvCodec& kivi8_codec() noexcept;
const KvCodec& kivi4_codec() noexcept;
const KvCodec& kivi2_codec() noexcept;

}  // namespace larder
