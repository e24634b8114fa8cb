// The families, one per file; `architectures()` lists them.
#pragma once

#include "model/arch/arch.h"

namespace larder {

extern const Arch kLlama;    // Llama 2 and 3.x and what copies them
extern const Arch kMistral;  // Llama with a sliding window; "llama" in GGUF
extern const Arch kQwen2;    // Qwen 2 and 2.5: biases on q, k, v
extern const Arch kQwen3;    // norms on q and k heads
extern const Arch
    kGemma2;  // soft caps, every other layer with a sliding window, norms on both sides
extern const Arch kGemma3;     // five of six layers with a sliding window and their own rope base
extern const Arch kPhi3;       // fused qkv and gate/up, long rope
extern const Arch kDeepseek2;  // latent attention, mixture of experts
extern const Arch kLarderCla;  // Llama or Qwen 3 whose layers read K and V of earlier ones

}  // namespace larder
