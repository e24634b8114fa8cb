// One connection. Only src/server/http_*.cc include this.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <optional>
#include <set>

#include "server/api.h"
#include "server/auth.h"
#include "server/body_budget.h"
#include "server/http_access.h"
#include "server/http_server.h"

namespace larder {

/// A connection as the server sees it.
class HttpConnection {
 public:
  virtual ~HttpConnection() = default;
  /// Closes the socket; what waits on it ends.
  virtual void close() = 0;
  bool busy() const noexcept { return busy_; }  // a request is under way

 protected:
  bool busy_ = false;
};

/// What connections share. Of the thread of `run` alone, but for `workers`.
struct HttpContext {
  HttpContext(const HttpOptions& o, BrowserRules rules);

  const HttpOptions options;
  const ApiKeys keys;
  const BrowserRules browsers;
  std::optional<boost::asio::ssl::context> tls;
  Api* api = nullptr;        // null while the model loads
  bool on_loopback = false;  // where the server listens
  bool stopping = false;
  boost::asio::thread_pool workers{2};
  BodyBudget bodies;
  std::set<HttpConnection*> connections;  // open ones; each takes itself out
  // Last, so that it goes first: the connections that it still holds use all of the above.
  boost::asio::io_context io{1};
};

/// Serves the socket until it is closed.
void start_session(HttpContext& context, boost::asio::ip::tcp::socket socket);

}  // namespace larder
