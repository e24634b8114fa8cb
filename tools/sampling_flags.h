// Flags of SamplingOptions, under llama.cpp's names.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "larder/engine.h"
#include "model/io/model_source.h"

namespace larder {

/// What the user gave; empty fields are left to the model's own defaults, then to Larder's.
struct SamplingFlags {
  std::optional<float> temperature, top_p, min_p, repetition_penalty;
  std::optional<float> presence_penalty, frequency_penalty;
  std::optional<std::uint32_t> top_k, penalty_window;
  std::vector<std::pair<std::int32_t, float>> logit_bias;
  std::optional<std::int64_t> seed;  // empty or negative: drawn at random
};

/// `flags` must outlive the parsing.
void add_sampling_flags(CLI::App& app, SamplingFlags& flags);

/// Flags over the model's defaults over Larder's.
SamplingOptions resolve_sampling(const SamplingFlags& flags, const GenerationDefaults& defaults);

}  // namespace larder
