// Tokenizers of Hugging Face directories: tokenizer.json, or SentencePiece's tokenizer.model.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "larder/result.h"
#include "model/text/tokenizer_data.h"

namespace larder {

/// Reads tokenizer.json, else tokenizer.model, and what surrounds it: tokenizer_config.json,
/// special_tokens_map.json, added_tokens.json, chat_template.jinja.
/// Errors: not_found (neither file is there), io, corrupt (with file and field), unsupported (a
/// model, normaliser or pre-tokenizer that would change the tokens and is not known).
Result<TokenizerData> read_hf_tokenizer(const std::string& directory);

/// The vocabulary and rules of a tokenizer.json; `origin` names it in messages. BOS, EOS and the
/// like are known only as far as the post-processor says.
Result<TokenizerData> parse_tokenizer_json(std::string_view json, const std::string& origin);

/// The protobuf of a SentencePiece BPE model.
Result<TokenizerData> parse_sentencepiece_model(std::span<const std::byte> bytes,
                                                const std::string& origin);

}  // namespace larder
