// What no key of a block goes beyond, channel by channel.
#pragma once

#include <cstddef>

#include "codec/kv_codec.h"

namespace larder {

/// BlockMarks::bounds of a full block of a raw format, as its keys are stored: [2, head_dim] bf16,
/// the greatest value of each channel, then the least; rounded up and down where bf16 does not have
/// them. NaN bounds nothing.
void write_key_bounds(const KvCodec& codec, const std::byte* k, BlockShape shape,
                      std::byte* bounds);

/// A query as bounds meet it: out [2, head_dim], q where it is positive, then where it is negative,
/// zero elsewhere. Its product with the bounds of a block is at least that of q with any key of it:
/// the sum over channels of max(q * greatest, q * least). Method: Tang et al. 2024, Quest
/// (arXiv:2406.10774).
void split_query(const float* q, std::size_t head_dim, float* out);

}  // namespace larder
