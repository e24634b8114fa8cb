#include "server/api_error.h"

#include <nlohmann/json.hpp>

namespace larder {

std::string_view ApiError::type() const noexcept {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    case 503:
      return "unavailable_error";
    default:
      return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

std::string error_json(const ApiError& error) {
  using Json = nlohmann::ordered_json;
  const auto or_null = [](const std::optional<std::string>& text) {
    return text ? Json(*text) : Json(nullptr);
  };
  Json json;
  json["error"]["message"] = error.message;
  json["error"]["type"] = error.type();
  json["error"]["param"] = or_null(error.param);
  json["error"]["code"] = or_null(error.code);
  return json.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

}  // namespace larder
