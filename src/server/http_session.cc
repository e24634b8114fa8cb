#include "server/http_session.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <chrono>
#include <exception>
#include <memory>
#include <string>
#include <type_traits>

#include "server/http_input.h"

namespace larder {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
using asio::ip::tcp;
using boost::system::error_code;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr std::uint32_t kMaxHeaderBytes = 16384;
constexpr std::size_t kMaxInputBytes = 65536;                // read ahead of the parser
constexpr std::size_t kMaxDrained = std::size_t{128} << 20;  // thrown away before closing
constexpr double kCloseSeconds = 2;

std::chrono::steady_clock::duration duration(double seconds) {
  return std::chrono::duration_cast<std::chrono::steady_clock::duration>(
      std::chrono::duration<double>(seconds));
}

template <class Stream>
class Session final : public HttpConnection, public std::enable_shared_from_this<Session<Stream>> {
 public:
  Session(Stream stream, HttpContext& context)
      : stream_(std::move(stream)), context_(context), wake_(context.io) {
    context_.connections.insert(this);
  }
  ~Session() override { context_.connections.erase(this); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  asio::awaitable<void> run();
  void close() override { lowest().close(); }

 private:
  static constexpr bool kTls = !std::is_same_v<Stream, beast::tcp_stream>;

  beast::tcp_stream& lowest() { return beast::get_lowest_layer(stream_); }
  tcp::socket& raw() { return lowest().socket(); }
  void allow(double seconds) { lowest().expires_after(duration(seconds)); }

  asio::awaitable<bool> wait_for_input();
  asio::awaitable<bool> serve_one();
  asio::awaitable<bool> read_body(Parser& parser);
  asio::awaitable<bool> answer(Parser& parser);
  asio::awaitable<ApiAnswer> ask(ApiRequest request);
  asio::awaitable<bool> generate(ApiAnswer answer);
  asio::awaitable<bool> write(HttpReply reply);
  asio::awaitable<bool> write_stream_head(HttpReply& reply);
  asio::awaitable<bool> write_piece(std::string piece);
  asio::awaitable<void> wait_for_events();
  asio::awaitable<void> watch_peer();
  asio::awaitable<void> finish();
  void start_watching();
  void wake() {
    woken_ = true;
    wake_.cancel();
  }

  Stream stream_;
  HttpContext& context_;
  beast::flat_buffer buffer_{kMaxInputBytes};
  asio::steady_timer wake_;
  bool woken_ = false;     // the channel has something
  bool watching_ = false;  // a read is under way that hears when the peer leaves
  bool peer_gone_ = false;
  bool keep_alive_ = true;  // of the request under way
  unsigned version_ = 11;
  bool is_head_ = false;
};

template <class Stream>
asio::awaitable<void> Session<Stream>::run() {
  if constexpr (kTls) {
    allow(context_.options.header_seconds);
    auto [error] = co_await stream_.async_handshake(asio::ssl::stream_base::server, kAwait);
    if (error) co_return;
  }
  bool goes_on = true;
  while (goes_on && !context_.stopping) {
    this->busy_ = false;
    goes_on = co_await wait_for_input();
    if (!goes_on) break;
    this->busy_ = true;
    goes_on = co_await serve_one();
  }
  co_await finish();
}

/// Until the first bytes of the next request are there.
template <class Stream>
asio::awaitable<bool> Session<Stream>::wait_for_input() {
  // The end of the input is told once: another read would wait for it until the idle time is over.
  if (peer_gone_) co_return false;
  const double idle = context_.options.idle_seconds;
  if (watching_) {  // the read that watched the peer goes on as the first of this request
    const auto until = std::chrono::steady_clock::now() + duration(idle);
    while (watching_) {
      wake_.expires_at(until);
      auto [error] = co_await wake_.async_wait(kAwait);
      if (!error) co_return false;  // the time is over
    }
    co_return !peer_gone_;
  }
  if (buffer_.size() > 0) co_return true;
  allow(idle);
  auto [error, n] = co_await stream_.async_read_some(buffer_.prepare(4096), kAwait);
  buffer_.commit(n);
  co_return !error;
}

template <class Stream>
asio::awaitable<bool> Session<Stream>::serve_one() {
  Parser parser;
  parser.header_limit(kMaxHeaderBytes);
  parser.body_limit(context_.options.max_body_bytes);
  allow(context_.options.header_seconds);
  keep_alive_ = false;  // until the request is understood
  is_head_ = false;
  auto [error, n] = co_await http::async_read_header(stream_, buffer_, parser, kAwait);
  if (error) {
    const ApiError refused = header_error(error, context_.options.max_body_bytes);
    if (refused.status != 0) co_await write(error_reply(refused));
    co_return false;
  }
  version_ = parser.get().version();
  is_head_ = parser.get().method() == http::verb::head;
  const auto key = parser.get()[http::field::authorization];
  if (needs_key(path_of(parser)) && !context_.keys.allow({key.data(), key.size()})) {
    HttpReply reply =
        error_reply({401, "no valid API key is given", std::nullopt, "invalid_api_key"});
    reply.headers.emplace_back("WWW-Authenticate", "Bearer");
    co_await write(std::move(reply));
    co_return false;
  }
  // What is kept of bodies is bounded over all connections, by what they announce.
  const auto length = parser.content_length();
  const std::size_t n_bytes = parser.is_done() ? 0
                              : length         ? static_cast<std::size_t>(*length)
                                               : context_.options.max_body_bytes;
  if (context_.n_buffered_bytes + n_bytes > context_.options.max_buffered_bytes) {
    HttpReply reply =
        error_reply({503, "too many large requests at once", std::nullopt, "unavailable"});
    reply.headers.emplace_back("Retry-After", "1");
    co_await write(std::move(reply));
    co_return false;
  }
  context_.n_buffered_bytes += n_bytes;
  const bool is_read = co_await read_body(parser);
  bool goes_on = false;
  if (is_read) goes_on = co_await answer(parser);
  context_.n_buffered_bytes -= n_bytes;
  co_return goes_on;
}

template <class Stream>
asio::awaitable<bool> Session<Stream>::read_body(Parser& parser) {
  if (parser.is_done()) co_return true;
  allow(context_.options.body_seconds);
  if (beast::iequals(parser.get()[http::field::expect], "100-continue")) {
    const std::string go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    auto [error, n] = co_await asio::async_write(stream_, asio::buffer(go_on), kAwait);
    if (error) co_return false;
  }
  auto [error, n] = co_await http::async_read(stream_, buffer_, parser, kAwait);
  if (!error) co_return true;
  const ApiError refused = header_error(error, context_.options.max_body_bytes);
  if (refused.status != 0) co_await write(error_reply(refused));
  co_return false;
}

template <class Stream>
asio::awaitable<bool> Session<Stream>::answer(Parser& parser) {
  keep_alive_ = parser.get().keep_alive();
  if (context_.api == nullptr) co_return co_await write(loading_reply());
  const auto method = parser.get().method_string();
  ApiRequest request{std::string(method.data(), method.size()), path_of(parser),
                     std::move(parser.get().body()), query_of(parser)};
  ApiAnswer answered = co_await ask(std::move(request));
  if (answered.generation) co_return co_await generate(std::move(answered));
  co_return co_await write(std::move(answered.reply));
}

/// On the other thread: reading and tokenizing a long prompt must not hold up the others' tokens.
template <class Stream>
asio::awaitable<ApiAnswer> Session<Stream>::ask(ApiRequest request) {
  Api* const api = context_.api;
  const auto work = [api, &request]() -> asio::awaitable<ApiAnswer> {
    ApiAnswer answered;
    try {
      answered = api->handle(request);
    } catch (const std::exception&) {  // memory is short: this request fails, the others go on
      answered.reply = error_reply({500, "the server could not read the request", {}, {}});
    }
    co_return answered;
  };
  co_return co_await asio::co_spawn(context_.workers, work, asio::use_awaitable);
}

template <class Stream>
asio::awaitable<bool> Session<Stream>::generate(ApiAnswer answered) {
  GenerationReply& reply = *answered.generation;
  if (!watching_ && buffer_.size() == 0) start_watching();  // who sent more is still there
  std::weak_ptr<Session> weak = this->shared_from_this();
  reply.channel().notify([weak, &io = context_.io] {
    asio::post(io, [weak] {
      if (const auto self = weak.lock()) self->wake();
    });
  });
  bool has_head = false;
  while (!reply.ended()) {
    co_await wait_for_events();
    if (peer_gone_) co_return false;
    std::string piece = reply.advance();
    if (!reply.streams() || !reply.started()) continue;
    if (!has_head) {
      if (reply.error()) break;
      has_head = co_await write_stream_head(answered.reply);
      if (!has_head) co_return false;
    }
    const bool written = co_await write_piece(std::move(piece));
    if (!written) co_return false;
  }
  if (has_head) {
    const std::string last = version_ == 11 ? "0\r\n\r\n" : "";
    auto [error, n] = co_await asio::async_write(stream_, asio::buffer(last), kAwait);
    co_return !error && keep_alive_;
  }
  if (const auto error = reply.error()) co_return co_await write(error_reply(*error));
  answered.reply.body = reply.whole();
  co_return co_await write(std::move(answered.reply));
}

template <class Stream>
asio::awaitable<void> Session<Stream>::wait_for_events() {
  while (!woken_ && !peer_gone_) {
    wake_.expires_at(std::chrono::steady_clock::time_point::max());
    co_await wake_.async_wait(kAwait);
  }
  woken_ = false;
}

template <class Stream>
void Session<Stream>::start_watching() {
  watching_ = true;
  lowest().expires_never();
  auto self = this->shared_from_this();
  const auto watch = [self]() -> asio::awaitable<void> { co_await self->watch_peer(); };
  asio::co_spawn(context_.io, watch, asio::detached);
}

/// What it reads is the beginning of the next request, if anything.
template <class Stream>
asio::awaitable<void> Session<Stream>::watch_peer() {
  auto [error, n] = co_await stream_.async_read_some(buffer_.prepare(4096), kAwait);
  buffer_.commit(n);
  watching_ = false;
  if (error) peer_gone_ = true;
  wake_.cancel();
}

template <class Stream>
asio::awaitable<bool> Session<Stream>::write(HttpReply reply) {
  http::response<http::string_body> response;
  response.version(version_);
  response.result(static_cast<unsigned>(reply.status));
  response.set(http::field::server, "larder");
  response.set(http::field::content_type, reply.content_type);
  for (const auto& [name, value] : reply.headers) response.set(name, value);
  if (context_.stopping) keep_alive_ = false;
  response.keep_alive(keep_alive_);
  if (!is_head_) response.body() = std::move(reply.body);
  response.prepare_payload();
  allow(context_.options.write_seconds);
  auto [error, n] = co_await http::async_write(stream_, response, kAwait);
  co_return !error && keep_alive_;
}

template <class Stream>
asio::awaitable<bool> Session<Stream>::write_stream_head(HttpReply& reply) {
  http::response<http::empty_body> response;
  response.version(version_);
  response.result(static_cast<unsigned>(reply.status));
  response.set(http::field::server, "larder");
  response.set(http::field::content_type, reply.content_type);
  response.set(http::field::cache_control, "no-cache");
  response.set("X-Accel-Buffering", "no");  // proxies must not collect the events
  for (const auto& [name, value] : reply.headers) response.set(name, value);
  if (version_ != 11 || context_.stopping) keep_alive_ = false;
  response.keep_alive(keep_alive_);
  response.chunked(version_ == 11);
  http::response_serializer<http::empty_body> serializer{response};
  allow(context_.options.write_seconds);
  auto [error, n] = co_await http::async_write_header(stream_, serializer, kAwait);
  co_return !error;
}

template <class Stream>
asio::awaitable<bool> Session<Stream>::write_piece(std::string piece) {
  if (piece.empty()) co_return true;
  allow(context_.options.write_seconds);
  if (version_ == 11) {
    const auto chunk = http::make_chunk(asio::buffer(piece));
    auto [error, n] = co_await asio::async_write(stream_, chunk, kAwait);
    co_return !error;
  }
  auto [error, n] = co_await asio::async_write(stream_, asio::buffer(piece), kAwait);
  co_return !error;
}

/// Says goodbye, then reads what the peer still sends: closing over unread bytes would reset the
/// connection, and the answer with it.
template <class Stream>
asio::awaitable<void> Session<Stream>::finish() {
  this->busy_ = false;
  if (watching_ || peer_gone_ || context_.stopping) {
    error_code ignored;
    raw().shutdown(tcp::socket::shutdown_both, ignored);
    close();
    co_return;
  }
  allow(kCloseSeconds);
  if constexpr (kTls) co_await stream_.async_shutdown(kAwait);
  error_code error;
  raw().shutdown(tcp::socket::shutdown_send, error);
  std::size_t n_drained = 0;
  while (!error && n_drained < kMaxDrained) {
    buffer_.clear();
    auto [failed, n] = co_await lowest().async_read_some(buffer_.prepare(kMaxInputBytes), kAwait);
    error = failed;
    n_drained += n;
  }
  close();
}

template <class Stream>
void spawn(HttpContext& context, Stream stream) {
  auto session = std::make_shared<Session<Stream>>(std::move(stream), context);
  const auto run = [session]() -> asio::awaitable<void> { co_await session->run(); };
  // An exception means that memory is short; the connection goes, the server stays.
  asio::co_spawn(context.io, run, [](const std::exception_ptr&) {});
}

}  // namespace

void start_session(HttpContext& context, tcp::socket socket) {
  error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);  // a token is a packet
  if (context.tls) {
    spawn(context, asio::ssl::stream<beast::tcp_stream>(std::move(socket), *context.tls));
  } else {
    spawn(context, beast::tcp_stream(std::move(socket)));
  }
}

}  // namespace larder
