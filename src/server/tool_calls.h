// Calls of tools in what a model writes.
#pragma once

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/text/chat_template.h"

namespace larder {

/// How a model was taught to call.
struct ToolStyle {
  /// True: <tool_call>{"name": ..., "arguments": ...}</tool_call>, anywhere, any number (Hermes,
  /// Qwen). False: the answer is nothing but {"name": ..., "parameters": ...} (Llama 3).
  bool tagged = true;
  std::string arguments_key = "arguments";
};

/// What the template makes of a conversation with tools, found by writing one. Empty when it leaves
/// them out, or writes calls in another way than the two.
std::optional<ToolStyle> find_tool_style(const ChatTemplate& chat);

struct ToolCall {
  std::string name;
  std::string arguments;  // a JSON object
};

/// A schema of exactly one call of one of the tools, and what stands around it.
/// REQUIRES: `tools` is a list of {"function": {"name", "parameters"}}
struct ToolCallFormat {
  std::string schema, prefix, suffix;
};
ToolCallFormat tool_call_format(const nlohmann::ordered_json& tools, const ToolStyle& style);

/// Tells text from calls while both come in pieces. What may be a call is held back until it is
/// known; what only looks like one comes out as text. Not thread-safe.
class ToolCallReader {
 public:
  struct Piece {
    std::string text;
    std::vector<ToolCall> calls;
  };
  /// `names`: of the tools; a bare object that names another is text.
  ToolCallReader(ToolStyle style, std::vector<std::string> names);
  /// `last`: nothing follows.
  Piece push(std::string_view text, bool last);

 private:
  void read_tagged(Piece& piece, bool last);
  void read_bare(Piece& piece, bool last);
  bool begins_a_call() const;
  std::optional<std::vector<ToolCall>> bare_calls() const;

  const ToolStyle style_;
  const std::vector<std::string> names_;
  std::string held_;
  bool inside_ = false;      // between the tags
  bool after_call_ = false;  // white space behind a call belongs to it
  bool is_text_ = false;     // of a bare answer: it began with something else
};

}  // namespace larder
