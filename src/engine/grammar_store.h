// The grammars of an engine, the last ones remembered.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "grammar/grammar.h"
#include "grammar/json_schema.h"
#include "larder/result.h"
#include "model/text/tokenizer.h"

namespace larder {

/// Requests with the same schema share a grammar, and with it what it has found out about the
/// vocabulary. Thread-safe.
class GrammarStore {
 public:
  /// `tokenizer` must outlive it; `n_vocab`: logits of the model.
  GrammarStore(const Tokenizer& tokenizer, std::uint32_t n_vocab)
      : tokenizer_(tokenizer), n_vocab_(n_vocab) {}

  /// Errors: those of compile_json_schema; unsupported when the vocabulary cannot write some byte.
  Result<std::shared_ptr<const Grammar>> json(std::string_view schema,
                                              const JsonFrame& frame) const;

 private:
  Result<std::shared_ptr<const TokenBytes>> vocabulary() const;

  const Tokenizer& tokenizer_;
  const std::uint32_t n_vocab_;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const TokenBytes> tokens_;  // owners: this and its grammars
  mutable std::deque<std::pair<std::string, std::shared_ptr<const Grammar>>> known_;  // newest last
};

}  // namespace larder
