#include "engine/grammar_store.h"

#include <algorithm>
#include <array>

#include "base/fail.h"
#include "model/text/unicode.h"

namespace larder {
namespace {

constexpr std::size_t kMostKnown = 8;

/// Whether each byte of well-formed UTF-8 from `low` to `high` is a token of its own.
bool has_bytes(const std::array<bool, 256>& single, unsigned low, unsigned high) {
  return std::all_of(single.begin() + low, single.begin() + high + 1, [](bool has) { return has; });
}

}  // namespace

/// What has begun must be possible to complete: token by token, in bytes if need be. Tokens that
/// hold a part of a character are left out where its other bytes cannot be had one by one.
Result<std::shared_ptr<const TokenBytes>> GrammarStore::vocabulary() const {
  const std::lock_guard lock(mutex_);
  if (tokens_) return tokens_;
  std::vector<std::string> pieces(n_vocab_);
  std::array<bool, 256> single{};
  const std::uint32_t n = std::min(n_vocab_, tokenizer_.n_vocab());
  for (std::uint32_t id = 0; id < n; ++id) {
    pieces[id] = tokenizer_.piece(static_cast<TokenId>(id), false);
    if (pieces[id].size() == 1) single[static_cast<unsigned char>(pieces[id][0])] = true;
  }
  for (unsigned c = 0x20; c < 0x7F; ++c) {
    if (single[c]) continue;
    return fail(Errc::unsupported, "the vocabulary has no token for '{}' alone, which JSON needs",
                static_cast<char>(c));
  }
  if (!has_bytes(single, 0x80, 0xBF) || !has_bytes(single, 0xC2, 0xF4)) {
    for (std::string& piece : pieces) {
      if (!is_valid_utf8(piece)) piece.clear();
    }
  }
  std::vector<TokenId> ends = tokenizer_.data().end_tokens;
  std::erase_if(ends, [this](TokenId id) { return static_cast<std::uint32_t>(id) >= n_vocab_; });
  tokens_ = std::make_shared<const TokenBytes>(pieces, std::move(ends));
  return tokens_;
}

Result<std::shared_ptr<const Grammar>> GrammarStore::json(std::string_view schema,
                                                          const JsonFrame& frame) const {
  LARDER_ASSIGN(auto tokens, vocabulary());
  std::string key;  // no part of it holds a zero byte: JSON cannot, and frames are our own
  for (const std::string_view part :
       {std::string_view(frame.prefix), std::string_view(frame.suffix), schema}) {
    key.append(part).push_back('\0');
  }
  {
    const std::lock_guard lock(mutex_);
    const auto known = std::find_if(known_.begin(), known_.end(),
                                    [&key](const auto& entry) { return entry.first == key; });
    if (known != known_.end()) {
      std::rotate(known, known + 1, known_.end());
      return known_.back().second;
    }
  }
  LARDER_ASSIGN(auto automaton, compile_json_schema(schema, frame));
  auto grammar = std::make_shared<const Grammar>(std::move(automaton), std::move(tokens));
  LARDER_TRY(remember(std::move(key), grammar));
  return grammar;
}

/// Requests that wait hold their grammars: what strangers make of them is bounded together.
Result<void> GrammarStore::remember(std::string key,
                                    const std::shared_ptr<const Grammar>& grammar) const {
  const std::lock_guard lock(mutex_);
  std::size_t n_bytes = grammar->n_bytes();
  std::erase_if(in_use_, [&n_bytes](const auto& used) {
    const auto other = used.lock();
    if (other) n_bytes += other->n_bytes();
    return other == nullptr;
  });
  if (n_bytes > max_bytes_) {
    return fail(Errc::unavailable,
                "the schemas of unfinished requests would take {} bytes, at most {} are allowed",
                n_bytes, max_bytes_);
  }
  in_use_.push_back(grammar);
  known_.emplace_back(std::move(key), grammar);
  if (known_.size() > kMostKnown) known_.pop_front();
  return {};
}

}  // namespace larder
