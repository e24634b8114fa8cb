// The grammars of an engine, the last ones remembered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "grammar/grammar.h"
#include "grammar/json_schema.h"
#include "larder/result.h"
#include "model/text/tokenizer.h"

namespace larder {

/// Requests with the same schema share a grammar, and with it what it has found out about the
/// vocabulary. Thread-safe.
class GrammarStore {
 public:
  static constexpr std::size_t kMostBytes = std::size_t{256} << 20;
  /// `tokenizer` must outlive it; `n_vocab`: logits of the model; `max_bytes`: of all grammars that
  /// are in use.
  GrammarStore(const Tokenizer& tokenizer, std::uint32_t n_vocab,
               std::size_t max_bytes = kMostBytes)
      : tokenizer_(tokenizer), n_vocab_(n_vocab), max_bytes_(max_bytes) {}

  /// Errors: those of compile_json_schema; unsupported when the vocabulary cannot write some byte;
  /// unavailable while those in use take all that they may.
  Result<std::shared_ptr<const Grammar>> json(std::string_view schema,
                                              const JsonFrame& frame) const;

 private:
  Result<std::shared_ptr<const TokenBytes>> vocabulary() const;
  Result<void> remember(std::string key, const std::shared_ptr<const Grammar>& grammar) const;

  const Tokenizer& tokenizer_;
  const std::uint32_t n_vocab_;
  const std::size_t max_bytes_;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const TokenBytes> tokens_;  // owners: this and its grammars
  mutable std::deque<std::pair<std::string, std::shared_ptr<const Grammar>>> known_;  // newest last
  mutable std::vector<std::weak_ptr<const Grammar>> in_use_;  // those known, and of requests
};

}  // namespace larder
