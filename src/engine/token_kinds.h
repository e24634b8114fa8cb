// Which tokens are text, punctuation or neither.
#pragma once

#include <cstdint>
#include <vector>

#include "model/text/tokenizer.h"
#include "policy/hybrid_patterns.h"

namespace larder {

/// [n_vocab] of the model; ids that the tokenizer does not know are plain.
std::vector<TokenKind> token_kinds(const Tokenizer& tokenizer, std::uint32_t n_vocab);

}  // namespace larder
