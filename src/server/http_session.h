// One connection. Only src/server/http_*.cc include this.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <cstddef>
#include <optional>
#include <set>
#include <utility>

#include "server/api.h"
#include "server/auth.h"
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
  explicit HttpContext(const HttpOptions& o) : options(o), keys(o.api_keys) {}

  const HttpOptions options;
  const ApiKeys keys;
  std::optional<boost::asio::ssl::context> tls;
  Api* api = nullptr;  // null while the model loads
  bool stopping = false;
  std::size_t n_buffered_bytes = 0;       // of bodies
  std::set<HttpConnection*> connections;  // open ones; each takes itself out
  boost::asio::io_context io{1};
  boost::asio::thread_pool workers{2};
};

/// Serves the socket until it is closed.
void start_session(HttpContext& context, boost::asio::ip::tcp::socket socket);

}  // namespace larder
