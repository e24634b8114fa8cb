// Latent attention from its formula, in double: what the two forms are tested against.
#pragma once

#include "kernels/mla_attention.h"

namespace larder::reference {

/// Keys and values of every head from the cached rows, then softmax(scale q K^T) V.
void attend_latent(const LatentCall& call);

}  // namespace larder::reference
