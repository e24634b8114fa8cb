// What the attention of a model's layers reads on a given text.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "larder/engine.h"
#include "larder/options.h"
#include "larder/result.h"
#include "model/surgery/attention_layer.h"

namespace larder {

struct CalibrationOptions {
  EngineOptions engine;  // model, threads; the context is the window
  std::string text_path;
  std::uint64_t max_tokens = 8192;
};

/// Runs tokens through the engine in windows of its context that do not overlap, behind BOS where
/// the model asks for it. Draws a bar on a terminal. Errors: those of the engine; unavailable
/// (Ctrl-C).
Result<void> run_windows(Engine& engine, std::span<const std::int32_t> tokens);

/// Runs the text through the engine in such windows and averages the products of all attention
/// inputs of a layer, each with a 1 behind it. The diagonal is raised by 1 %, so that directions a
/// short text does not show keep some weight. Draws a bar on a terminal. Memory: 8 (n_embd + 1)^2
/// bytes per layer, at most 8 GiB. Errors: invalid_argument (an empty text, a model that takes more
/// memory), those of the engine; unavailable (Ctrl-C).
Result<InputMoments> measure_input_moments(const CalibrationOptions& options);

}  // namespace larder
