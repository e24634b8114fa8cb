#include "model/text/chat_prompt.h"

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/fail.h"

namespace larder {
namespace {

/// REQUIRES: `text` is empty or parses as an object
nlohmann::ordered_json to_object(std::string_view text) {
  if (text.empty()) return nlohmann::ordered_json::object();
  auto json = nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  LARDER_CHECK(json.is_object());
  return json;
}

std::string token_text(const Tokenizer& tokenizer, TokenId id) {
  return id == kNoToken ? "" : tokenizer.piece(id, true);
}

}  // namespace

Result<std::optional<ChatTemplate>> load_chat_template(const Tokenizer& tokenizer) {
  const std::string& source = tokenizer.data().chat_template;
  if (source.empty()) return std::optional<ChatTemplate>();
  LARDER_ASSIGN(ChatTemplate chat, ChatTemplate::parse(source));
  return std::optional<ChatTemplate>(std::move(chat));
}

Result<std::vector<TokenId>> chat_tokens(const ChatTemplate& chat, const Tokenizer& tokenizer,
                                         const std::vector<ChatMessage>& messages,
                                         std::string_view arguments, ChatEnd end) {
  nlohmann::ordered_json context = to_object(arguments);
  context["messages"] = nlohmann::ordered_json::array();
  for (const ChatMessage& message : messages) {
    nlohmann::ordered_json entry = to_object(message.more);
    entry["role"] = message.role;
    entry["content"] = message.content;
    context["messages"].push_back(std::move(entry));
  }
  context["add_generation_prompt"] = end == ChatEnd::answer;
  context["bos_token"] = token_text(tokenizer, tokenizer.data().bos);
  context["eos_token"] = token_text(tokenizer, tokenizer.data().eos);
  LARDER_ASSIGN(const std::string text, chat.render(context));
  EncodeOptions options;
  options.add_special = false;
  return tokenizer.encode(text, options);
}

std::vector<TokenId> continuation_tokens(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<TokenId> tokens = tokenizer.encode(text, {});
  const TokenizerData& data = tokenizer.data();
  if (data.add_eos && !tokens.empty() && tokens.back() == data.eos) tokens.pop_back();
  return tokens;
}

}  // namespace larder
