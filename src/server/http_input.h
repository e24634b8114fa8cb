// What comes in over HTTP, as the API calls it.
#pragma once

#include <boost/beast/http.hpp>
#include <optional>
#include <string>

#include "server/api.h"

namespace larder {

namespace http = boost::beast::http;
using Parser = http::request_parser<http::string_body>;

inline std::string target_of(const Parser& parser) {
  const auto target = parser.get().target();
  return {target.data(), target.size()};
}

inline std::string path_of(const Parser& parser) {
  const std::string text = target_of(parser);
  return text.substr(0, text.find('?'));
}

inline std::string query_of(const Parser& parser) {
  const std::string text = target_of(parser);
  const std::size_t begin = text.find('?');
  return begin == std::string::npos ? "" : text.substr(begin + 1);
}

/// Paths that tell nothing of the model or of others.
inline bool needs_key(const std::string& path) { return path != kHealthPath && path != kPagePath; }

/// What a header or body that cannot be read deserves; status 0: the peer is gone or was too slow
/// and its connection is closed, nobody listens.
inline ApiError header_error(const boost::system::error_code& error, std::size_t max_body_bytes) {
  if (error == http::error::body_limit) {
    return {413, "the body is larger than " + std::to_string(max_body_bytes) + " bytes",
            std::nullopt, "body_too_large"};
  }
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return {431, "the header is too large", std::nullopt, "header_too_large"};
  }
  if (error == http::error::end_of_stream || error == http::error::partial_message ||
      error.category() != http::make_error_code(http::error::bad_value).category()) {
    return {0, "", std::nullopt, std::nullopt};
  }
  return {400, "not HTTP: " + error.message(), std::nullopt, "bad_http"};
}

}  // namespace larder
