// Which pages in a browser may ask.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "larder/result.h"
#include "server/api_error.h"

namespace larder {

/// What a request says of where it comes from; empty: nothing.
struct Sender {
  std::string host;    // "name:port", as the client calls this server
  std::string origin;  // "scheme://name:port" of the page that asks
};

/// A server on loopback is open to every page that its user looks at: the browser sends what the
/// page asks for. So a page of a foreign origin is refused, and on loopback also a foreign name of
/// this server, behind which such a page would pass as ours (DNS rebinding). Programs that are no
/// browsers send no origin. Immutable; thread-safe.
class BrowserRules {
 public:
  /// `allowed_origins`: as browsers write them, or "*" for all. Errors: invalid_argument.
  static Result<BrowserRules> make(std::vector<std::string> allowed_origins);

  /// Why the request is refused, if it is. `on_loopback`: the server can be reached from there
  /// only.
  std::optional<ApiError> check(const Sender& sender, bool on_loopback) const;
  /// What Access-Control-Allow-Origin says to the page; empty: the header is not sent.
  std::string shared_with(std::string_view origin) const;

 private:
  bool allows(std::string_view origin) const;
  bool knows_host(std::string_view host) const;
  std::vector<std::string> allowed_;
  bool allows_all_ = false;
};

}  // namespace larder
