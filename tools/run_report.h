// What `larder run` says at the end: a small table for people, one JSON object for programs.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "generation.h"

namespace larder {

/// Sums over the requests of a session (a chat has many, a completion one).
struct RunTotals {
  std::uint64_t n_prompt_tokens = 0, n_reused_tokens = 0, n_prefilled_tokens = 0;
  std::uint64_t n_generated_tokens = 0, n_decoded_tokens = 0;
  double prefill_seconds = 0, decode_seconds = 0;
  double first_token_seconds = 0;  // of the last request
  std::uint64_t seed = 0;

  void add(const Generation& generation);
};

std::string run_summary(const Engine& engine, const RunTotals& totals);
nlohmann::ordered_json run_json(const Engine& engine, const Generation& generation,
                                const RunTotals& totals);

}  // namespace larder
