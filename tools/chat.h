// A conversation on the terminal.
#pragma once

#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "base/fail.h"
#include "generation.h"
#include "larder/engine.h"
#include "model/text/chat_prompt.h"
#include "run_flags.h"
#include "run_report.h"

namespace larder {

/// Reads lines, answers them, and remembers: each turn goes on from the kept cache of the one
/// before, so only the new words are computed. Without a template the model continues the text
/// instead. Replies go to standard output, everything else to standard error. Not thread-safe.
class ChatSession {
 public:
  /// `engine` and `flags` must outlive it.
  ChatSession(Engine& engine, const RunFlags& flags, SamplingOptions sampling,
              std::optional<ChatTemplate> chat);
  ~ChatSession();
  ChatSession(const ChatSession&) = delete;
  ChatSession& operator=(const ChatSession&) = delete;

  /// Until /exit, the end of the input, or Ctrl-C at the prompt. Errors: those of the engine.
  Result<void> run(std::istream& input);
  const RunTotals& totals() const { return totals_; }

 private:
  enum class Command { none, exit, done };
  Command command(const std::string& line);
  Result<void> answer(const std::string& line);
  Result<std::vector<TokenId>> prompt_for(const std::string& line);
  Result<std::vector<TokenId>> message_prompt(const std::string& line);
  std::vector<TokenId> text_prompt(const std::string& line);
  std::size_t room() const;
  void remember(const Generation& generation);
  void clear();

  Engine& engine_;
  const RunFlags& flags_;
  SamplingOptions sampling_;
  std::optional<ChatTemplate> chat_;
  std::vector<ChatMessage> messages_;  // with a template
  std::string text_;                   // without one
  RequestId kept_ = 0;
  RunTotals totals_;
};

}  // namespace larder
