// Refusals as OpenAI's API words them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "larder/result.h"

namespace larder {

/// {"error": {message, type, param, code}} with an HTTP status.
struct ApiError {
  int status = 400;
  std::string message;  // one sentence that names the field and its value
  std::optional<std::string> param, code;

  /// What the status means in OpenAI's words: "invalid_request_error", "rate_limit_error", ...
  std::string_view type() const noexcept;
};

template <class T>
using ApiResult = tl::expected<T, ApiError>;

inline tl::unexpected<ApiError> refuse(ApiError error) {
  return tl::unexpected<ApiError>(std::move(error));
}

/// The error as a JSON object, without line breaks.
std::string error_json(const ApiError& error);

}  // namespace larder
