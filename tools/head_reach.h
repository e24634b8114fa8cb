// How far the KV heads of a model look.
#pragma once

#include <cstdint>

#include "larder/options.h"
#include "larder/result.h"
#include "policy/head_budgets.h"

namespace larder {

struct HeadReachOptions {
  EngineOptions engine;          // model, threads, rows of a step
  std::uint32_t n_words = 512;   // tokens of a passage, which comes twice
  std::uint32_t n_passages = 4;  // whose means are taken
  std::uint32_t sinks = 64;      // first tokens that every head keeps,
  std::uint32_t recent = 256;    // and newest ones
  std::uint64_t seed = 1;
};

/// Runs passages of words drawn by lot, each twice in a row, through the model. Weights: the share
/// of its attention that the second time a KV head, on the mean of its queries, pays to the first
/// time beyond what a streaming head keeps, which is where copying heads look. Layers with a window
/// have 0. Draws a bar on a terminal.
/// The idea of DuoAttention (Xiao et al. 2024, arXiv:2410.10819), whose authors train a gate for
/// each head on such texts; this measures instead. Errors: invalid_argument (passages that leave
/// nothing beyond sinks and window, longer than the model's context), unsupported (latent
/// attention), those of opening a model; unavailable (Ctrl-C).
Result<HeadWeights> measure_head_reach(const HeadReachOptions& options);

}  // namespace larder
