// The server over loopback: what clients do, and what they should not.
#include "server/http_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <thread>

#include "server/http_client.h"
#include "server/wire.h"

namespace larder {
namespace {

using testing::HasSubstr;

constexpr const char* kCompletions = "/v1/completions";

TEST(HttpServerTest, AnswersOnOneConnection) {
  Wire wire;
  HttpClient client(wire.port());
  EXPECT_EQ(client.get("/health").status, 200);
  EXPECT_EQ(client.get("/v1/models?after=1").status, 200);
  const HttpResponse whole = client.post(kCompletions, R"({"prompt":"Once","max_tokens":5})");
  EXPECT_EQ(whole.status, 200);
  EXPECT_EQ(whole.headers.at("content-type"), "application/json");
  const Json answer = Json::parse(whole.body);
  EXPECT_EQ(answer.at("usage").at("completion_tokens"), 5);
  const HttpResponse stream =
      client.post(kCompletions, R"({"prompt":"Once","max_tokens":5,"stream":true})");
  EXPECT_EQ(stream.status, 200);
  EXPECT_EQ(stream.headers.at("content-type"), "text/event-stream");
  std::string text;
  for (const Json& chunk : chunks_of(stream.body)) text += chunk.at("choices").at(0).at("text");
  EXPECT_EQ(text, answer.at("choices").at(0).at("text"));
  EXPECT_EQ(client.get("/nowhere").status, 404);  // and the connection is still good
  EXPECT_EQ(client.get("/metrics").status, 200);
  wire.expect_well();
}

TEST(HttpServerTest, SaysSoWhileTheModelLoads) {
  Wire wire({}, /*loaded=*/false);
  HttpClient client(wire.port());
  EXPECT_EQ(client.get("/health").status, 503);
  const HttpResponse early = client.post(kCompletions, "{}");
  EXPECT_EQ(early.status, 503);
  EXPECT_EQ(early.headers.count("retry-after"), 1U);
  wire.load();
  EXPECT_EQ(HttpClient(wire.port()).get("/health").status, 200);
}

TEST(HttpServerTest, KeysGuardAllButHealth) {
  Wire wire({.api_keys = {"secret"}});
  EXPECT_EQ(HttpClient(wire.port()).get("/health").status, 200);
  for (const char* path : {"/v1/models", "/metrics", "/version", "/nowhere"}) {
    const HttpResponse refused = HttpClient(wire.port()).get(path);
    EXPECT_EQ(refused.status, 401) << path;
    EXPECT_THAT(refused.body, HasSubstr("invalid_api_key"));
  }
  EXPECT_EQ(HttpClient(wire.port()).get("/v1/models", "Authorization: Bearer wrong\r\n").status,
            401);
  EXPECT_EQ(HttpClient(wire.port()).get("/v1/models", "Authorization: Bearer secret\r\n").status,
            200);
}

TEST(HttpServerTest, RefusesWhatIsTooLarge) {
  Wire wire({.max_body_bytes = 1000});
  HttpClient big(wire.port());
  big.send("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 104857600\r\n\r\n");
  const HttpResponse refused = big.read_response();
  EXPECT_EQ(refused.status, 413);
  EXPECT_THAT(refused.body, HasSubstr("larger than 1000 bytes"));
  HttpClient chunked(wire.port());
  chunked.send(
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
      "chunked\r\n\r\n7d0\r\n" +
      std::string(2000, 'x') + "\r\n0\r\n\r\n");
  EXPECT_EQ(chunked.read_response().status, 413);
  HttpClient header(wire.port());
  header.send("GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + std::string(20000, 'x') +
              "\r\n\r\n");
  EXPECT_EQ(header.read_response().status, 431);
  wire.expect_well();
}

TEST(HttpServerTest, SurvivesGarbage) {
  Wire wire;
  for (const std::string& garbage :
       {std::string("\x16\x03\x01\x02 hello"), std::string("GET\r\n\r\n"), std::string(70000, 'A'),
        std::string("POST /v1/completions HTTP/1.1\r\nContent-Length: -5\r\n\r\n"),
        std::string("POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
        std::string("GET / HTTP/9.9\r\n\r\n"), std::string("\0\0\0\0", 4)}) {
    HttpClient client(wire.port());
    client.send(garbage);
    client.half_close();
    EXPECT_TRUE(client.is_closed_by_peer());
  }
  wire.expect_well();
}

TEST(HttpServerTest, SlowHeadersAreCutOff) {
  Wire wire({.header_seconds = 0.05, .body_seconds = 0.05, .idle_seconds = 0.05});
  HttpClient idle(wire.port()), header(wire.port()), body(wire.port());
  header.send("GET /health HTTP/1.1\r\nHost:");
  body.send("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n{");
  EXPECT_TRUE(idle.is_closed_by_peer());
  EXPECT_TRUE(header.is_closed_by_peer());
  EXPECT_TRUE(body.is_closed_by_peer());
}

TEST(HttpServerTest, ConnectionsAreBoundedPolitely) {
  Wire wire({.n_connections = 4});
  std::deque<HttpClient> open;
  for (int i = 0; i < 4; ++i) {
    open.emplace_back(wire.port());
    EXPECT_EQ(open.back().get("/health").status, 200);
  }
  for (int i = 0; i < 50; ++i) {
    HttpClient refused(wire.port());
    EXPECT_EQ(refused.read_response().status, 503);
  }
  EXPECT_EQ(open.front().get("/health").status, 200);
}

TEST(HttpServerTest, DisconnectsCancel) {
  Wire wire;
  const std::string stream =
      R"({"prompt":"Once","max_tokens":120,"ignore_eos":true,"stream":true})";
  const std::string whole = R"({"prompt":"Once","max_tokens":120,"ignore_eos":true})";
  for (int i = 0; i < 5; ++i) {
    HttpClient reading(wire.port()), waiting(wire.port()), half(wire.port());
    reading.send(post_text(kCompletions, stream));
    waiting.send(post_text(kCompletions, whole));
    half.send(post_text(kCompletions, stream));
    reading.read_until("data: ");
    half.half_close();
    reading.close();
    waiting.close();
    EXPECT_TRUE(half.is_closed_by_peer());
  }
  wire.expect_well();
}

TEST(HttpServerTest, ClosesWhenThePeerEndsWithTheAnswer) {
  Wire wire;
  // The end of the input may come while the last bytes are written, before them and behind them.
  for (int i = 0; i < 400; ++i) {
    HttpClient client(wire.port());
    client.send(post_text(kCompletions, R"({"prompt":"Once","max_tokens":2,"stream":true})"));
    client.read_until(i % 2 == 0 ? "[DONE]" : "\"finish_reason\":\"length\"");
    client.half_close();
    ASSERT_TRUE(client.is_closed_by_peer()) << i;
  }
}

TEST(HttpServerTest, PipelinedRequestsAreAnsweredInOrder) {
  Wire wire;
  HttpClient client(wire.port());
  client.send(post_text(kCompletions, R"({"prompt":"Once","max_tokens":9,"stream":true})") +
              post_text(kCompletions, R"({"prompt":"Once","max_tokens":2})") +
              "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(client.read_response().headers.at("content-type"), "text/event-stream");
  EXPECT_EQ(Json::parse(client.read_response().body).at("usage").at("completion_tokens"), 2);
  EXPECT_THAT(client.read_response().body, HasSubstr("ok"));
}

TEST(HttpServerTest, ShutDownFinishesWhatRuns) {
  Wire wire;
  HttpClient running(wire.port()), idle(wire.port());
  EXPECT_EQ(idle.get("/health").status, 200);
  running.send(post_text(kCompletions,
                         R"({"prompt":"Once","max_tokens":60,"ignore_eos":true,"stream":true})"));
  running.read_until("\r\n\r\n");
  wire.http().shut_down();
  wire.server().loop->drain();
  EXPECT_TRUE(idle.is_closed_by_peer());
  EXPECT_THAT(running.read_until("[DONE]"), HasSubstr("\"finish_reason\":\"length\""));
  EXPECT_TRUE(running.is_closed_by_peer());
  wire.join();  // the thread ends by itself
}

TEST(HttpServerTest, ManyClientsGetWhatEachWouldAlone) {
  Wire wire;
  const auto body = [](int i) {
    return R"({"prompt":"Once upon a time","max_tokens":12,"temperature":1,"seed":)" +
           std::to_string(i) + "}";
  };
  std::vector<std::string> alone(16), together(16);
  for (int i = 0; i < 16; ++i) {
    alone[i] =
        Json::parse(HttpClient(wire.port()).post(kCompletions, body(i)).body)["choices"].dump();
  }
  std::vector<std::thread> threads;
  for (int i = 0; i < 16; ++i) {
    threads.emplace_back([&, i] {
      together[i] =
          Json::parse(HttpClient(wire.port()).post(kCompletions, body(i)).body)["choices"].dump();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(alone, together);
  wire.expect_well();
}

TEST(HttpServerTest, RefusesWhatItCannotServe) {
  HttpOptions options;
  options.ssl_cert_file = "/nonexistent.pem";
  EXPECT_THAT(HttpServer::listen(options).error().message, HasSubstr("need each other"));
  options.ssl_key_file = "/nonexistent.key";
  EXPECT_THAT(HttpServer::listen(options).error().message, HasSubstr("/nonexistent.pem"));
  for (const char* origin : {"", "example.com", "https://example.com/", "http://", "://a", "* "}) {
    HttpOptions bad;
    bad.allowed_origins = {"https://fine.example", origin};
    EXPECT_THAT(HttpServer::listen(bad).error().message, HasSubstr("allowed-origins is '"))
        << origin;
  }
  EXPECT_THAT(HttpServer::listen({.max_body_bytes = 0}).error().message,
              HasSubstr("max-body is 0"));
  EXPECT_THAT(HttpServer::listen({.n_connections = 0}).error().message,
              HasSubstr("max-connections is 0"));
  HttpOptions nowhere;
  nowhere.host = "256.1.1.1";
  EXPECT_FALSE(HttpServer::listen(nowhere));
  const Wire wire;
  HttpOptions taken;
  taken.port = wire.port();
  EXPECT_EQ(HttpServer::listen(taken).error().code, Errc::unavailable);
}

}  // namespace
}  // namespace larder
