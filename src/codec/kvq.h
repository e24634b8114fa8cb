// KVQuant: keys as they were before rope, by channel, in 4, 3 and 2 bits with a table made for the
// layer; `o`: with 1 % of the elements kept apart (arXiv:2401.18079).
#pragma once

#include "codec/kv_codec.h"

namespace larder {

const KvCodec& kvq4_codec() noexcept;
const KvCodec& kvq4o_codec() noexcept;
const KvCodec& kvq3_codec() noexcept;
const KvCodec& kvq3o_codec() noexcept;
const KvCodec& kvq2_codec() noexcept;
const KvCodec& kvq2o_codec() noexcept;

}  // namespace larder
