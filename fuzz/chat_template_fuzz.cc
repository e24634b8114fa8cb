// Any bytes as a chat template, rendered with a small conversation.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "model/text/chat_template.h"

namespace {

nlohmann::ordered_json conversation() {
  return nlohmann::ordered_json::parse(R"({
    "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": true,
    "messages": [
      {"role": "system", "content": " Be terse.\n"},
      {"role": "user", "content": "caf\u00e9 \ud83c\udf5e <b>"},
      {"role": "assistant", "content": null, "tool_calls": [{"id": "abcdef123", "type": "function",
        "function": {"name": "add", "arguments": {"a": 1, "b": [2.5, null, true]}}}]},
      {"role": "tool", "content": "3", "tool_call_id": "abcdef123"},
      {"role": "user", "content": [{"type": "text", "text": "And?"}]}],
    "tools": [{"type": "function", "function": {"name": "add", "parameters": {"type": "object",
      "properties": {"a": {"type": "integer"}}, "required": ["a"]}}}]})");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const nlohmann::ordered_json kConversation = conversation();
  const auto parsed = larder::ChatTemplate::parse({reinterpret_cast<const char*>(data), size});
  if (parsed) static_cast<void>(parsed->render(kConversation));
  return 0;
}
