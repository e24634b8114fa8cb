// The frequencies of rotary position embedding that a model's configuration asks for.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/rope.h"
#include "model/config.h"

namespace larder {

/// Frequencies of one kind of layer: `local` ones are those with a sliding window (Gemma 3 gives
/// them their own base and no scaling). `n_context` is the longest sequence the engine is set up
/// for: long rope takes its long factors when that exceeds the original context, its short ones
/// otherwise, and never changes in the middle of a sequence.
/// REQUIRES: a config that `validate` accepted.
/// Methods: position interpolation (Chen et al. 2023, arXiv:2306.15595), YaRN (Peng et al. 2023,
/// arXiv:2309.00071), LongRoPE (Ding et al. 2024, arXiv:2402.13753), Llama 3.1's by wavelength.
RopeTable make_rope_table(const ModelConfig& config, bool local, std::uint32_t n_context);

/// What YaRN multiplies sines and cosines by when the file names no factor: 1 + 0.1 ln(factor).
float yarn_attention_factor(float factor) noexcept;

/// What sines and cosines of scaled layers are multiplied by: 1 without YaRN or long rope.
float rope_amplitude(const RopeConfig& rope) noexcept;

/// Llama 3.1's scaling as one divisor per frequency, the form GGUF files carry it in. [n_rot / 2]
/// REQUIRES: rope.scaling is llama3.
std::vector<float> llama3_divisors(const RopeConfig& rope);

}  // namespace larder
