// Attention written from its formula: what the fast kernels are tested against.
#pragma once

#include <span>

#include "kernels/attention.h"

namespace larder::reference {

/// As larder::attend, in double precision and one query at a time:
///   out = sum_t softmax_t(cap(scale * <q, k_t>)) v_t over the rows t that the query sees.
/// Allocates; slow.
void attend(const AttentionShape& shape, const KvLayout& layout,
            std::span<const AttentionItem> items, const float* q, float* out);

}  // namespace larder::reference
