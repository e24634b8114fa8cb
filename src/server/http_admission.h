// Who may ask. Only src/server/http_*.cc include this.
#pragma once

#include <optional>
#include <string>

#include "server/http_input.h"
#include "server/http_session.h"

namespace larder {

/// What a request's header decides before its body is read.
struct Admission {
  std::optional<HttpReply> refused;
  bool asks_leave = false;  // a browser, on behalf of a page of another origin: no key is needed
  std::string shared_with;  // which pages may read the answer; empty: the server's own
};

/// By the page that asks, if it is one, and by the key.
Admission admit(const HttpContext& context, const Parser& parser, const Target& target);

/// What pages of allowed origins may send (the Fetch standard, 3.2.2).
HttpReply leave_reply();

}  // namespace larder
