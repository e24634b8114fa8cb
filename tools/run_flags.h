// The flags of `larder run`, and the text it starts from.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "larder/engine.h"
#include "sampling_flags.h"

namespace larder {

struct RunFlags {
  EngineOptions engine;
  SamplingFlags sampling;
  std::optional<std::string> prompt, prompt_file, system;
  std::optional<std::string> json_schema, json_schema_file;
  std::vector<std::string> stop;
  std::optional<std::int32_t> n_predict;  // empty or negative: until the model or the context ends
  std::uint32_t n_samples = 1;
  std::int32_t n_logprobs = -1;
  bool ignore_eos = false;
  bool chat = false, no_chat = false;
  bool json = false, quiet = false;
};

/// The request that the flags ask for, over the given tokens.
inline Request make_request(const RunFlags& flags, const SamplingOptions& sampling,
                            std::vector<std::int32_t> prompt) {
  Request request;
  request.prompt = std::move(prompt);
  const std::int32_t n_predict = flags.n_predict.value_or(-1);
  request.max_tokens = n_predict < 0 ? 0 : static_cast<std::uint32_t>(n_predict);
  request.n_samples = flags.n_samples;
  request.sampling = sampling;
  request.stop = flags.stop;
  request.ignore_eos = flags.ignore_eos;
  request.n_logprobs = flags.n_logprobs;
  return request;
}

}  // namespace larder
