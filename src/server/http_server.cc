#include "server/http_server.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <csignal>
#include <new>
#include <string_view>

#include "base/fail.h"
#include "server/heap.h"
#include "server/http_session.h"

namespace larder {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

/// Files, standard streams and the rest of the process need descriptors too.
std::size_t connection_limit(std::size_t wanted) {
  constexpr std::size_t kReserved = 64;
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return wanted;
  const auto n = static_cast<std::size_t>(limit.rlim_cur);
  return std::min(wanted, n > 2 * kReserved ? n - kReserved : n / 2);
}

Result<void> check_limits(const HttpOptions& options) {
  if (options.n_connections == 0) {
    return fail(Errc::invalid_argument, "max-connections is 0, must be at least 1");
  }
  if (options.max_body_bytes == 0) {
    return fail(Errc::invalid_argument, "max-body is 0, must be at least 1");
  }
  return {};
}

Result<void> load_certificate(HttpContext& context) {
  const auto& [cert, key] = std::pair(context.options.ssl_cert_file, context.options.ssl_key_file);
  if (cert.empty() && key.empty()) return {};
  if (cert.empty() || key.empty()) {
    return fail(Errc::invalid_argument, "ssl-cert-file and ssl-key-file need each other");
  }
  using asio::ssl::context_base;
  context.tls.emplace(context_base::tls_server);
  error_code error;
  context.tls->set_options(context_base::default_workarounds | context_base::no_sslv2 |
                               context_base::no_sslv3 | context_base::no_tlsv1 |
                               context_base::no_tlsv1_1,
                           error);
  if (!error) {  // a key with a passphrase is refused: nobody sits at the terminal to type it
    context.tls->set_password_callback([](auto...) { return std::string(); }, error);
  }
  if (!error) context.tls->use_certificate_chain_file(cert, error);
  if (error) return fail(Errc::invalid_argument, "ssl-cert-file {}: {}", cert, error.message());
  context.tls->use_private_key_file(key, context_base::pem, error);
  if (error) return fail(Errc::invalid_argument, "ssl-key-file {}: {}", key, error.message());
  return {};
}

}  // namespace

HttpContext::HttpContext(const HttpOptions& o, BrowserRules rules)
    : options(o),
      keys(o.api_keys),
      browsers(std::move(rules)),
      bodies(o.max_buffered_bytes, [this] {
        try {
          asio::post(workers, give_memory_back);
        } catch (const std::bad_alloc&) {  // then not now: the next large body asks again
        }
      }) {}

struct HttpServer::Impl {
  Impl(const HttpOptions& options, BrowserRules rules)
      : context(options, std::move(rules)), acceptor(context.io), signals(context.io) {}

  Result<void> bind();
  asio::awaitable<void> accept_all();
  void turn_away(tcp::socket socket);
  void wait_for_signal();
  void stop();

  HttpContext context;
  tcp::acceptor acceptor;
  asio::signal_set signals;
  std::function<void()> on_signal;
  std::size_t n_connections = 0;  // most
};

Result<void> HttpServer::Impl::bind() {
  const HttpOptions& options = context.options;
  error_code error;
  tcp::resolver resolver(context.io);
  const auto found =
      resolver.resolve(options.host, std::to_string(options.port), tcp::resolver::passive, error);
  if (error || found.empty()) {
    return fail(Errc::invalid_argument, "host '{}': {}", options.host, error.message());
  }
  const tcp::endpoint endpoint = found.begin()->endpoint();
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    return fail(Errc::unavailable, "cannot listen on {} port {}: {}", options.host, options.port,
                error.message());
  }
  n_connections = connection_limit(options.n_connections);
  context.on_loopback = endpoint.address().is_loopback();
  return {};
}

asio::awaitable<void> HttpServer::Impl::accept_all() {
  asio::steady_timer pause(context.io);
  while (!context.stopping) {
    auto [error, socket] = co_await acceptor.async_accept(kAwait);
    if (context.stopping) break;
    if (error) {  // no descriptors left, or the peer was faster: nothing to hurry for
      pause.expires_after(std::chrono::milliseconds(50));
      co_await pause.async_wait(kAwait);
    } else if (context.connections.size() >= n_connections) {
      turn_away(std::move(socket));
    } else {
      start_session(context, std::move(socket));
    }
  }
}

/// As politely as it can be done without waiting.
void HttpServer::Impl::turn_away(tcp::socket socket) {
  static constexpr std::string_view kBody =
      R"({"error":{"message":"too many connections","type":"unavailable_error","param":null,)"
      R"("code":"too_many_connections"}})";
  error_code ignored;
  if (context.tls) {
    socket.close(ignored);
    return;
  }
  const std::string reply = fmt::format(
      "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
      "Connection: close\r\nContent-Length: {}\r\n\r\n{}",
      kBody.size(), kBody);
  socket.non_blocking(true, ignored);
  socket.write_some(asio::buffer(reply), ignored);
  socket.shutdown(tcp::socket::shutdown_send, ignored);
  socket.close(ignored);
}

void HttpServer::Impl::wait_for_signal() {
  signals.async_wait([this](const error_code& error, int /*signal*/) {
    if (error) return;
    if (on_signal) on_signal();
    wait_for_signal();
  });
}

void HttpServer::Impl::stop() {
  context.stopping = true;
  error_code ignored;
  acceptor.close(ignored);
  signals.cancel(ignored);
  for (HttpConnection* connection : context.connections) {
    if (!connection->busy()) connection->close();
  }
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() = default;

Result<std::unique_ptr<HttpServer>> HttpServer::listen(const HttpOptions& options) {
  LARDER_TRY(check_limits(options));
  LARDER_ASSIGN(BrowserRules rules, BrowserRules::make(options.allowed_origins));
  auto impl = std::make_unique<Impl>(options, std::move(rules));
  LARDER_TRY(load_certificate(impl->context));
  LARDER_TRY(impl->bind());
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

std::uint16_t HttpServer::port() const {
  error_code ignored;
  return impl_->acceptor.local_endpoint(ignored).port();
}

bool HttpServer::uses_tls() const { return impl_->context.tls.has_value(); }

void HttpServer::run() {
  asio::co_spawn(impl_->context.io, impl_->accept_all(), asio::detached);
  impl_->context.io.run();
  impl_->context.workers.join();
}

void HttpServer::serve(Api& api) {
  asio::post(impl_->context.io, [this, &api] { impl_->context.api = &api; });
}

void HttpServer::catch_signals(std::function<void()> on_signal) {
  asio::post(impl_->context.io, [this, handler = std::move(on_signal)]() mutable {
    if (impl_->context.stopping) return;
    impl_->on_signal = std::move(handler);
    impl_->signals.add(SIGINT);
    impl_->signals.add(SIGTERM);
    impl_->wait_for_signal();
  });
}

void HttpServer::shut_down() {
  asio::post(impl_->context.io, [this] { impl_->stop(); });
}

void HttpServer::close_all() {
  asio::post(impl_->context.io, [this] {
    impl_->stop();
    for (HttpConnection* connection : impl_->context.connections) connection->close();
  });
}

}  // namespace larder
