// HTTP/1.1 over TCP or TLS: sockets, limits and time-outs around the API.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "larder/result.h"
#include "server/api.h"

namespace larder {

struct HttpOptions {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8080;                    // 0: any that is free
  std::string ssl_cert_file{}, ssl_key_file{};  // PEM; both or none
  std::vector<std::string> api_keys{};          // none: everybody may ask
  std::vector<std::string> allowed_origins{};   // of pages beside the server's own; "*": all
  std::size_t max_body_bytes = std::size_t{8} << 20;
  std::size_t max_buffered_bytes = std::size_t{256} << 20;  // of all large bodies: see BodyBudget
  std::size_t n_connections = 1024;  // fewer where the system gives fewer descriptors
  double header_seconds = 10;        // for the whole header, and for a TLS handshake
  double body_seconds = 60;          // for the whole body
  double idle_seconds = 75;          // between two requests
  double write_seconds = 30;         // for a piece of the answer: how long a reader may stand still
};

/// One thread runs all connections; a second one reads and tokenizes what they ask. A client that
/// goes away cancels its generation. Bounded in connections, headers, bodies and time.
class HttpServer {
 public:
  /// Binds and listens; until `serve` every answer is 503. Errors: invalid_argument (limits of 0,
  /// origins, certificate, key, host), unavailable (the port is taken).
  static Result<std::unique_ptr<HttpServer>> listen(const HttpOptions& options);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  std::uint16_t port() const;
  bool uses_tls() const;

  /// Blocks until `shut_down` was called and the last connection is closed. Call once.
  void run();
  /// The rest is thread-safe. `api` must outlive `run`.
  void serve(Api& api);
  /// `on_signal` is called, on the thread of `run`, for each SIGINT and SIGTERM.
  void catch_signals(std::function<void()> on_signal);
  /// Takes no new connections and closes those without a request under way; the others are closed
  /// when their answer is written.
  void shut_down();
  /// Closes what is still open.
  void close_all();

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace larder
