// What goes out over HTTP. Only src/server/http_*.cc include this.
#pragma once

#include <boost/beast/http.hpp>
#include <string>

#include "server/api.h"

namespace larder {

/// Status and fields of a response, but for what depends on its body and its connection.
/// `shared_with`: the pages that may read it; empty: the server's own.
template <class Response>
void set_head(Response& response, const HttpReply& reply, const std::string& shared_with) {
  using boost::beast::http::field;
  response.result(static_cast<unsigned>(reply.status));
  response.set(field::server, "larder");
  response.set(field::content_type, reply.content_type);
  for (const auto& [name, value] : reply.headers) response.set(name, value);
  if (shared_with.empty()) return;
  response.set(field::access_control_allow_origin, shared_with);
  response.set(field::access_control_expose_headers, "Retry-After, X-Larder-Ignored");
  if (shared_with != "*") response.set(field::vary, "Origin");
}

}  // namespace larder
