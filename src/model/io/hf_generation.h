// What a Hugging Face directory says about generating text: end tokens and sampling.
#pragma once

#include <string>
#include <vector>

#include "base/block_id.h"
#include "larder/result.h"
#include "model/io/model_source.h"

namespace larder {

class JsonFields;

struct HfGeneration {
  GenerationDefaults defaults;
  std::vector<TokenId> end_tokens;  // eos_token_id, one or many; empty: not said
};

/// generation_config.json, or what config.json says where that file is absent.
/// Errors: io, corrupt (types; values out of range; token ids beyond n_vocab).
Result<HfGeneration> read_hf_generation(const std::string& directory, const JsonFields& config,
                                        std::uint32_t n_vocab);

}  // namespace larder
