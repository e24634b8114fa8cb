// A prompt that the model reads again, so that its queries show which rows it needs to repeat it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kv/sequence_cache.h"
#include "model/text/tokenizer.h"

namespace larder {

/// What is said before a part of a prompt is read again.
struct RereadTexts {
  std::vector<TokenId> first;  // before the beginning of the prompt,
  std::vector<TokenId> later;  // and before other parts, with the last tokens of the one before
};

/// In the model's tokens; those that a model of `n_vocab` ids does not know are left out.
RereadTexts make_reread_texts(const Tokenizer& tokenizer, std::uint32_t n_vocab);

/// What is read behind `text`, of which `n_done` tokens were read again: an instruction and up to
/// `n_chunk` tokens. Method: Kim et al. 2025 (arXiv:2505.23416).
/// REQUIRES: n_done < text.size(), n_chunk > 0
std::vector<TokenId> reread_tokens(const RereadTexts& texts, std::span<const TokenId> text,
                                   std::uint32_t n_done, std::uint32_t n_chunk);

/// Rows that a sequence of up to `n_context` tokens has beside its text's meanwhile, at most, with
/// what their blocks hold beside them; 0 without chunks.
std::uint32_t max_reread_rows(std::uint32_t n_chunk, std::uint32_t n_context,
                              std::uint32_t block_tokens) noexcept;

/// A part that is being read again: its rows stand in a fork of the cache, which is dropped.
struct Rereading {
  SequenceCache text;           // the rows of the text, as they were
  std::vector<TokenId> tokens;  // behind them

  /// Of `fork`, which has the rows of the text and some of the tokens'.
  std::uint32_t n_left(const SequenceCache& fork) const {
    return text.n_rows() + static_cast<std::uint32_t>(tokens.size()) - fork.n_rows();
  }
  const TokenId* next_tokens(const SequenceCache& fork) const {
    return tokens.data() + (fork.n_rows() - text.n_rows());
  }
};

}  // namespace larder
