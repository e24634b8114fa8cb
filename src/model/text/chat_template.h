// Chat templates: the Jinja in the model file, interpreted.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "larder/result.h"

namespace larder {

/// A parsed template. Immutable; thread-safe.
class ChatTemplate {
 public:
  /// Errors: corrupt (syntax, with line and column), unsupported (a Jinja feature outside the subset).
  /// Limits on size, nesting and output are checked first: a template is untrusted input.
  static Result<ChatTemplate> parse(std::string_view source);
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  /// `context`: an object with messages, add_generation_prompt, bos_token, eos_token, tools (or
  /// absent), ... as `transformers` passes them. Errors: invalid_argument for raise_exception(...) with its
  /// message (e.g. a role the model does not know), unsupported, or limits exceeded (steps, output).
  Result<std::string> render(const nlohmann::ordered_json& context) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace larder
