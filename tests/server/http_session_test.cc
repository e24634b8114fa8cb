// One connection: how requests follow each other, what is kept of them, when a peer is gone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <deque>
#include <string>

#include "server/http_client.h"
#include "server/http_input.h"
#include "server/wire.h"

namespace larder {
namespace {

using testing::HasSubstr;

constexpr const char* kCompletions = "/v1/completions";
constexpr const char* kLong = R"({"prompt":"Once","max_tokens":120,"ignore_eos":true})";
constexpr const char* kLongStream =
    R"({"prompt":"Once","max_tokens":120,"ignore_eos":true,"stream":true})";

std::string head_of(const std::string& method, const std::string& path,
                    const std::string& fields = {}) {
  return method + " " + path + " HTTP/1.1\r\nHost: localhost\r\n" + fields + "\r\n";
}

/// A request for the tokens of "a" in a body of `n_bytes`.
std::string padded(std::size_t n_bytes, const std::string& body = R"({"prompt":"a"})") {
  return body + std::string(n_bytes - body.size(), ' ');
}

TEST(HttpSessionTest, AnnouncedBodiesTakeNothing) {
  Wire wire({.max_buffered_bytes = 0});
  std::deque<HttpClient> idle;
  for (int i = 0; i < 40; ++i) {
    idle.emplace_back(wire.port());
    const bool chunked = i % 2 == 0;
    idle.back().send(head_of("POST", "/tokenize",
                             chunked ? "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n"
                                     : "Content-Length: 8000000\r\nExpect: 100-continue\r\n"));
    EXPECT_THAT(idle.back().read_until("\r\n\r\n"), HasSubstr("100 Continue"));
  }
  EXPECT_EQ(HttpClient(wire.port()).post("/tokenize", padded(1000)).status, 200);
}

TEST(HttpSessionTest, LargeBodiesAreBounded) {
  Wire wire({.max_buffered_bytes = 100000});
  HttpClient large(wire.port());
  const HttpResponse refused = large.post("/tokenize", padded(500000));
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.headers.count("retry-after"), 1U);
  EXPECT_TRUE(large.is_closed_by_peer());
  HttpClient client(wire.port());  // what was refused has given back what it took
  for (int i = 0; i < 10; ++i) EXPECT_EQ(client.post("/tokenize", padded(160000)).status, 200);
  wire.expect_well();
}

TEST(HttpSessionTest, BodiesAreLetGoBeforeTheirAnswer) {
  Wire wire({.max_buffered_bytes = 100000});
  HttpClient waiting(wire.port());
  {
    const HeldLoop held(*wire.server().loop);
    waiting.send(post_text(kCompletions, padded(160000, R"({"prompt":"Once","max_tokens":2})")));
    wait_for_requests(*wire.server().loop, 1);
    // Its body goes when the connection hears that the request was read, which may be later.
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    int status = 503;
    while (status == 503 && std::chrono::steady_clock::now() < give_up) {
      status = HttpClient(wire.port()).post("/tokenize", padded(160000)).status;
    }
    EXPECT_EQ(status, 200);
  }
  EXPECT_EQ(waiting.read_response().status, 200);
}

TEST(HttpSessionTest, ALeavingPeerIsSeenBehindWhatItSentAhead) {
  for (const std::string& ahead : {std::string("G"), std::string(20000, 'G')}) {
    Wire wire;
    const HeldLoop held(*wire.server().loop);
    for (const char* body : {kLong, kLongStream}) {
      HttpClient client(wire.port());
      client.send(post_text(kCompletions, body) + ahead);
      client.half_close();
      EXPECT_TRUE(client.is_closed_by_peer());  // although its answer has not begun
    }
  }
}

TEST(HttpSessionTest, WhatALeavingPeerAskedForIsCancelled) {
  Wire wire;
  {
    const HeldLoop held(*wire.server().loop);
    HttpClient client(wire.port());
    client.send(post_text(kCompletions, kLong) + "G");
    wait_for_requests(*wire.server().loop, 1);
    client.half_close();
    EXPECT_TRUE(client.is_closed_by_peer());
  }
  EXPECT_TRUE(wire.server().loop->wait_until_done(60));
  wire.end();
  EXPECT_LT(wire.server().loop->stats().engine.n_decode_tokens, 5U);  // not a hundred
}

TEST(HttpSessionTest, WhatComesDuringAnAnswerIsTheNextRequest) {
  Wire wire;
  HttpClient client(wire.port());
  const std::string next = post_text("/tokenize", R"({"prompt":"Once upon"})");
  for (std::size_t n_early = 0; n_early <= next.size(); n_early += 10) {
    {
      const HeldLoop held(*wire.server().loop);
      client.send(post_text(kCompletions, R"({"prompt":"Once","max_tokens":3})"));
      wait_for_requests(*wire.server().loop, 1);
      client.send(next.substr(0, n_early));
    }
    ASSERT_EQ(client.read_response().status, 200);
    client.send(next.substr(n_early));
    ASSERT_THAT(client.read_response().body, HasSubstr("tokens")) << n_early;
  }
}

TEST(HttpSessionTest, MoreThanIsKeptMayComeDuringAnAnswer) {
  Wire wire;
  HttpClient client(wire.port());
  {
    const HeldLoop held(*wire.server().loop);
    client.send(post_text(kCompletions, R"({"prompt":"Once","max_tokens":3})"));
    wait_for_requests(*wire.server().loop, 1);
    client.send(post_text("/tokenize", padded(100000)) + head_of("GET", "/health"));
  }
  EXPECT_EQ(client.read_response().status, 200);
  EXPECT_THAT(client.read_response().body, HasSubstr("tokens"));
  EXPECT_THAT(client.read_response().body, HasSubstr("ok"));
}

TEST(HttpSessionTest, WhoWatchesTheServerWaitsForNobody) {
  Wire wire;
  std::deque<HttpClient> waiting;
  {
    const HeldLoop held(*wire.server().loop);
    for (int i = 0; i < 6; ++i) {  // more than there are threads that read
      waiting.emplace_back(wire.port());
      waiting.back().send(head_of("GET", "/cache"));
    }
    for (const char* path : {"/health", "/version", "/metrics"}) {
      EXPECT_EQ(HttpClient(wire.port()).get(path).status, 200) << path;
    }
  }
  for (HttpClient& client : waiting) EXPECT_EQ(client.read_response().status, 200);
}

TEST(HttpSessionTest, HeadSaysWhatGetWould) {
  Wire wire;
  for (const char* path : {"/health", "/", "/version", "/v1/models", "/cache", "/nowhere"}) {
    HttpClient client(wire.port());
    const HttpResponse whole = client.get(path);
    client.send(head_of("HEAD", path));
    const std::string head = client.read_until("\r\n\r\n");
    EXPECT_THAT(head, HasSubstr("HTTP/1.1 " + std::to_string(whole.status)));
    EXPECT_THAT(head, HasSubstr("Content-Length: " + std::to_string(whole.body.size()) + "\r\n"));
    EXPECT_EQ(client.get("/health").status, 200) << "no body came behind the head of " << path;
  }
  HttpClient client(wire.port());
  client.send(head_of("HEAD", kCompletions));
  EXPECT_THAT(client.read_until("\r\n\r\n"), HasSubstr("405"));
}

TEST(HttpSessionTest, TargetsMayBeAbsolute) {
  Wire wire;
  HttpClient client(wire.port());
  client.send(head_of("GET", "http://127.0.0.1:1/v1/models?after=1"));
  EXPECT_THAT(client.read_response().body, HasSubstr("tiny"));
  client.send(head_of("GET", "HTTP://localhost"));
  EXPECT_THAT(client.read_response().headers.at("content-type"), HasSubstr("text/html"));
  client.send(head_of("GET", "ftp://localhost/health"));
  EXPECT_EQ(client.read_response().status, 404);
}

TEST(HttpInputTest, TargetsAreTakenApart) {
  struct Case {
    const char *text, *path, *query, *host;
  };
  for (const Case& c :
       {Case{"/a?b=c?d", "/a", "b=c?d", ""}, Case{"", "", "", ""}, Case{"*", "*", "", ""},
        Case{"http", "http", "", ""}, Case{"/a?x=http://b/c", "/a", "x=http://b/c", ""},
        Case{"http://a:1/b?c", "/b", "c", "a:1"}, Case{"https://a?b", "/", "b", "a"},
        Case{"http://", "/", "", ""}, Case{"http:///b", "/b", "", ""}}) {
    const Target target = parse_target(c.text);
    EXPECT_EQ(target.path, c.path) << c.text;
    EXPECT_EQ(target.query, c.query) << c.text;
    EXPECT_EQ(target.host, c.host) << c.text;
  }
}

}  // namespace
}  // namespace larder
