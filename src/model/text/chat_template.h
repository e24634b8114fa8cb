// Chat templates: the Jinja in the model file, interpreted.
#pragma once

#include <ctime>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "larder/result.h"

namespace larder {

/// A parsed template. Immutable; thread-safe.
class ChatTemplate {
 public:
  /// Errors: corrupt (syntax, with line and column), unsupported (a Jinja tag outside the subset).
  /// Limits on size, nesting and output are checked first: a template is untrusted input.
  static Result<ChatTemplate> parse(std::string_view source);
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  /// `context`: an object with messages, add_generation_prompt, bos_token, eos_token, tools, ... as
  /// `transformers` passes them; absent `tools` and `documents` are None, as there.
  /// Errors: invalid_argument for raise_exception(...) with its message (e.g. a role the model does
  /// not know), for operations Python refuses (with the line) and for limits exceeded (steps,
  /// output); unsupported (filters, tests and methods outside the subset).
  Result<std::string> render(const nlohmann::ordered_json& context) const;
  /// The same at a given local time, which only strftime_now sees.
  Result<std::string> render(const nlohmann::ordered_json& context, const std::tm& now) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace larder
