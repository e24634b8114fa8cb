// Text of users to tokens of the model: plain, or as a conversation through its chat template.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/text/chat_template.h"
#include "model/text/tokenizer.h"

namespace larder {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant", or what else the template knows
  std::string content;
  std::string more =
      {};  // a JSON object of further fields: tool_calls, tool_call_id, ...; or empty
};

/// The model's chat template, if it has one. Errors: those of ChatTemplate::parse.
Result<std::optional<ChatTemplate>> load_chat_template(const Tokenizer& tokenizer);

/// What stands behind a conversation.
enum class ChatEnd : std::uint8_t {
  answer,  // the words with which the assistant's next message begins
  open     // nothing: other messages may follow
};

/// The conversation as the template writes it. Special tokens come from the template, so none are
/// added. `arguments`: a JSON object with further variables of the template, e.g.
/// {"enable_thinking": false}, or empty; it cannot replace those set here. REQUIRES: `arguments`
/// and each message's `more` are empty or parse as objects. Errors: those of ChatTemplate::render.
Result<std::vector<TokenId>> chat_tokens(const ChatTemplate& chat, const Tokenizer& tokenizer,
                                         const std::vector<ChatMessage>& messages,
                                         std::string_view arguments = {},
                                         ChatEnd end = ChatEnd::answer);

/// Text to be continued: BOS as the model asks, no EOS.
std::vector<TokenId> continuation_tokens(const Tokenizer& tokenizer, std::string_view text);

}  // namespace larder
