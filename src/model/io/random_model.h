// Model files with random weights in the shape of well-known models: what speed is measured with
// when the real weights are not at hand.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "larder/result.h"
#include "model/config.h"
#include "tensor/dtype.h"

namespace larder {

/// "SmolLM2-135M", "Llama-3.2-1B", "Qwen3-0.6B"; with latent attention "DeepSeek-V2-Lite", the same
/// with 4 layers only ("-4L"), and "MLA-135M", as wide and deep as SmolLM2-135M; "tiny" (for
/// tests).
std::span<const std::string_view> random_model_shapes() noexcept;

/// Sizes of the shape; case does not matter. Errors: invalid_argument with the known names.
Result<ModelConfig> random_model_config(std::string_view shape);

/// Writes a GGUF file: matrices of `type`, norms of ones, tied embeddings, and a made-up
/// SentencePiece vocabulary of the right size. The same arguments give the same bytes. Weights are
/// independent enough for timing, not for statistics: rows are shifted copies of a few random ones,
/// so that a gigabyte takes a second. Errors: invalid_argument (the width is no multiple of the
/// type's block), io.
Result<void> write_random_model(const ModelConfig& config, DType type, const std::string& path,
                                const std::function<void(float)>& progress = {});

}  // namespace larder
