// Tokenizers in GGUF metadata.
#pragma once

#include "larder/result.h"
#include "model/text/tokenizer_data.h"

namespace larder {

class GgufMetadata;
class GgufWriter;

/// Reads the `tokenizer.*` keys, with llama.cpp's defaults for absent ones; kind `none` when the
/// file has no tokenizer. What GGUF has no key for comes from `larder.tokenizer.*`, which only
/// files of our own converter have. Errors: corrupt (counts that differ, ids beyond the vocabulary,
/// unknown token types), unsupported (tokenizer models other than "llama" and "gpt2", by name).
Result<TokenizerData> read_tokenizer(const GgufMetadata& metadata);

/// The inverse: `read_tokenizer` of the written keys gives the same data. Readers that do not know
/// the `larder.tokenizer.*` keys get what GGUF can say. Nothing for kind `none`.
Result<void> write_tokenizer(const TokenizerData& data, GgufWriter& writer);

}  // namespace larder
