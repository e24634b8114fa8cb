#include "server/http_session.h"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
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

#include "server/http_admission.h"
#include "server/http_input.h"
#include "server/http_output.h"

namespace larder {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
using asio::ip::tcp;
using boost::system::error_code;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr std::uint32_t kMaxHeaderBytes = 16384;
constexpr std::size_t kMaxInputBytes = 65536;  // read ahead of the parser
constexpr std::size_t kInputPiece = 4096;
constexpr std::size_t kMaxDrained = std::size_t{128} << 20;  // thrown away before closing
constexpr double kCloseSeconds = 2;

std::chrono::steady_clock::duration duration(double seconds) {
  return std::chrono::duration_cast<std::chrono::steady_clock::duration>(
      std::chrono::duration<double>(seconds));
}

ApiAnswer answer_of(Api& api, const ApiRequest& request) {
  try {
    return api.handle(request);
  } catch (const std::exception&) {  // memory is short: this request fails, the others go on
    return {error_reply({500, "the server could not read the request", {}, {}}), nullptr};
  }
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
  asio::awaitable<bool> answer(Parser& parser, Target target);
  asio::awaitable<ApiAnswer> ask(ApiRequest request);
  asio::awaitable<bool> generate(ApiAnswer answer);
  asio::awaitable<bool> write(HttpReply reply);
  asio::awaitable<bool> write_stream_head(HttpReply& reply);
  asio::awaitable<bool> write_piece(std::string piece);
  asio::awaitable<void> wait_for_events();
  void start_watching();
  asio::awaitable<void> watch_peer();
  asio::awaitable<void> stop_watching();
  asio::awaitable<void> finish();
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
  bool stops_watching_ = false;
  bool peer_gone_ = false;
  bool keep_alive_ = true;  // of the request under way
  unsigned version_ = 11;
  bool is_head_ = false;
  bool asks_leave_ = false;  // a browser, for a page of another origin
  std::string shared_with_;  // the pages that may read the answer; empty: the server's own
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
  if (buffer_.size() > 0) co_return true;
  allow(context_.options.idle_seconds);
  auto [error, n] = co_await stream_.async_read_some(buffer_.prepare(kInputPiece), kAwait);
  buffer_.commit(n);
  co_return !error;
}

template <class Stream>
asio::awaitable<bool> Session<Stream>::serve_one() {
  Parser parser;
  parser.header_limit(kMaxHeaderBytes);
  parser.body_limit(context_.options.max_body_bytes);
  parser.get().body().share = BodyShare(context_.bodies);
  allow(context_.options.header_seconds);
  keep_alive_ = false;  // until the request is understood
  is_head_ = asks_leave_ = false;
  shared_with_.clear();
  auto [error, n] = co_await http::async_read_header(stream_, buffer_, parser, kAwait);
  if (error) {
    const ApiError refused = header_error(error, context_.options.max_body_bytes);
    if (refused.status != 0) co_await write(error_reply(refused));
    co_return false;
  }
  version_ = parser.get().version();
  is_head_ = parser.get().method() == http::verb::head;
  Target target = parse_target({parser.get().target().data(), parser.get().target().size()});
  Admission admission = admit(context_, parser, target);
  shared_with_ = std::move(admission.shared_with);
  asks_leave_ = admission.asks_leave;
  if (admission.refused) {
    co_await write(std::move(*admission.refused));
    co_return false;
  }
  const bool is_read = co_await read_body(parser);
  if (!is_read) co_return false;
  co_return co_await answer(parser, std::move(target));
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
  if (refused.status == 0) co_return false;
  HttpReply reply = error_reply(refused);
  if (refused.status == 503) reply.headers.emplace_back("Retry-After", "1");
  co_await write(std::move(reply));
  co_return false;
}

template <class Stream>
asio::awaitable<bool> Session<Stream>::answer(Parser& parser, Target target) {
  keep_alive_ = parser.get().keep_alive();
  if (asks_leave_) co_return co_await write(leave_reply());
  if (context_.api == nullptr) co_return co_await write(loading_reply());
  const auto method = parser.get().method_string();
  CountedBody::value_type& body = parser.get().body();
  ApiRequest request{std::string(method.data(), method.size()), std::move(target.path),
                     std::move(body.text), std::move(target.query)};
  ApiAnswer answered = co_await ask(std::move(request));
  body.share.release();  // the body is gone, the answer may take minutes
  if (!answered.generation) co_return co_await write(std::move(answered.reply));
  start_watching();
  const bool goes_on = co_await generate(std::move(answered));
  co_await stop_watching();
  co_return goes_on;
}

/// On another thread, but for what is quick: reading and tokenizing a long prompt must not hold up
/// the others' tokens.
template <class Stream>
asio::awaitable<ApiAnswer> Session<Stream>::ask(ApiRequest request) {
  Api* const api = context_.api;
  if (is_quick(request.path)) co_return answer_of(*api, request);
  const auto work = [api, &request]() -> asio::awaitable<ApiAnswer> {
    co_return answer_of(*api, request);
  };
  co_return co_await asio::co_spawn(context_.workers, work, asio::use_awaitable);
}

template <class Stream>
asio::awaitable<bool> Session<Stream>::generate(ApiAnswer answered) {
  GenerationReply& reply = *answered.generation;
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
  stops_watching_ = false;
  auto self = this->shared_from_this();
  const auto watch = [self]() -> asio::awaitable<void> { co_await self->watch_peer(); };
  asio::co_spawn(context_.io, watch, [self](const std::exception_ptr& failed) {
    if (failed) self->peer_gone_ = true;  // memory is short: it is watched no longer, so it goes
    self->watching_ = false;
    self->wake_.cancel();
  });
}

/// Reads on behind what came already: more bytes do not mean that the peer stays. What it reads is
/// the beginning of the next requests; who sends more ahead than is kept is watched no longer.
template <class Stream>
asio::awaitable<void> Session<Stream>::watch_peer() {
  while (!stops_watching_ && !peer_gone_ && buffer_.size() < kMaxInputBytes) {
    lowest().expires_never();  // but for a write under way, which keeps its time
    const std::size_t n_room = kMaxInputBytes - buffer_.size();
    auto [error, n] =
        co_await stream_.async_read_some(buffer_.prepare(std::min(kInputPiece, n_room)), kAwait);
    buffer_.commit(n);
    // An end that stop_watching made is not the peer's.
    peer_gone_ = error && !(stops_watching_ && error == asio::error::operation_aborted);
  }
}

/// Until its read has ended: the next request is read by another.
template <class Stream>
asio::awaitable<void> Session<Stream>::stop_watching() {
  stops_watching_ = true;
  error_code ignored;
  if (watching_) raw().cancel(ignored);
  while (watching_) {
    wake_.expires_at(std::chrono::steady_clock::time_point::max());
    co_await wake_.async_wait(kAwait);
  }
}

template <class Stream>
asio::awaitable<bool> Session<Stream>::write(HttpReply reply) {
  http::response<http::string_body> response;
  response.version(version_);
  set_head(response, reply, shared_with_);
  if (context_.stopping) keep_alive_ = false;
  response.keep_alive(keep_alive_);
  response.content_length(reply.body.size());
  if (!is_head_) response.body() = std::move(reply.body);
  allow(context_.options.write_seconds);
  auto [error, n] = co_await http::async_write(stream_, response, kAwait);
  co_return !error && keep_alive_;
}

template <class Stream>
asio::awaitable<bool> Session<Stream>::write_stream_head(HttpReply& reply) {
  http::response<http::empty_body> response;
  response.version(version_);
  set_head(response, reply, shared_with_);
  response.set(http::field::cache_control, "no-cache");
  response.set("X-Accel-Buffering", "no");  // proxies must not collect the events
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
  if (peer_gone_ || context_.stopping) {
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
  asio::co_spawn(context.io, run, [session](const std::exception_ptr& failed) {
    if (failed) session->close();
  });
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
