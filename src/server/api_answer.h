// The two answers of the small routes: an object, or why there is none.
#pragma once

#include <nlohmann/json.hpp>

#include "server/api.h"

namespace larder {

inline ApiAnswer json_answer(const nlohmann::ordered_json& json) {
  using Json = nlohmann::ordered_json;
  ApiAnswer answer;
  answer.reply.body = json.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
  return answer;
}

inline ApiAnswer refusal(const ApiError& error) { return {error_reply(error), nullptr}; }

}  // namespace larder
