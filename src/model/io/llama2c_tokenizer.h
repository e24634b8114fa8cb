// The tokenizer file of llama2.c (tok512.bin and the like).
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "larder/result.h"
#include "model/text/tokenizer_data.h"

namespace larder {

/// Layout, little-endian: int32 longest piece in bytes; then per token f32 score, int32 length,
/// bytes. Spaces become U+2581 and BOS and EOS get their plain names, so that the result is an
/// ordinary SentencePiece vocabulary. Errors: not_found, io, corrupt.
Result<TokenizerData> read_llama2c_tokenizer(const std::string& path);
/// The same over bytes in memory; `origin` names them in messages.
Result<TokenizerData> parse_llama2c_tokenizer(std::span<const std::byte> bytes,
                                              const std::string& origin);

}  // namespace larder
