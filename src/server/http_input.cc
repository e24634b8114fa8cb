#include "server/http_input.h"

#include <algorithm>
#include <boost/beast/core/string.hpp>
#include <optional>

namespace larder {

Target parse_target(std::string_view text) {
  Target target;
  const std::size_t scheme_end = std::min(text.find("://"), text.size());
  const std::string_view scheme = text.substr(0, scheme_end);
  const bool is_absolute = scheme_end < text.size() && (boost::beast::iequals(scheme, "http") ||
                                                        boost::beast::iequals(scheme, "https"));
  if (is_absolute) {
    text.remove_prefix(scheme_end + 3);
    const std::size_t host_end = std::min(text.find_first_of("/?"), text.size());
    target.host = text.substr(0, host_end);
    text.remove_prefix(host_end);
    if (text.empty() || text.front() == '?') target.path = "/";
  }
  const std::size_t path_end = std::min(text.find('?'), text.size());
  target.path += text.substr(0, path_end);
  if (path_end < text.size()) target.query = text.substr(path_end + 1);
  return target;
}

bool needs_key(std::string_view path) { return path != kHealthPath && path != kPagePath; }

ApiError header_error(const boost::system::error_code& error, std::size_t max_body_bytes) {
  if (error == http::error::body_limit) {
    return {413, "the body is larger than " + std::to_string(max_body_bytes) + " bytes",
            std::nullopt, "body_too_large"};
  }
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return {431, "the header is too large", std::nullopt, "header_too_large"};
  }
  if (error == http::error::bad_alloc) {
    return {503, "too many large requests at once", std::nullopt, "unavailable"};
  }
  if (error == http::error::end_of_stream || error == http::error::partial_message ||
      error.category() != http::make_error_code(http::error::bad_value).category()) {
    return {0, "", std::nullopt, std::nullopt};
  }
  return {400, "not HTTP: " + error.message(), std::nullopt, "bad_http"};
}

}  // namespace larder
