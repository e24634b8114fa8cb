// Pages in a browser that ask a server on the user's own machine.
#include "server/http_access.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "server/wire.h"

namespace larder {
namespace {

using testing::HasSubstr;

BrowserRules rules(std::vector<std::string> allowed = {}) {
  return BrowserRules::make(std::move(allowed)).value();
}

TEST(BrowserRulesTest, PagesOfOtherOriginsAreRefused) {
  const BrowserRules ours = rules();
  for (const bool on_loopback : {false, true}) {
    EXPECT_FALSE(ours.check({"localhost:8080", ""}, on_loopback));
    EXPECT_FALSE(ours.check({"localhost:8080", "http://localhost:8080"}, on_loopback));
    EXPECT_FALSE(ours.check({"LocalHost:8080", "https://localhost:8080"}, on_loopback));
    for (const char* origin :
         {"http://evil.example", "null", "http://localhost:8081", "http://localhost",
          "http://evil/localhost:8080", "localhost:8080"}) {
      const auto refused = ours.check({"localhost:8080", origin}, on_loopback);
      ASSERT_TRUE(refused) << origin;
      EXPECT_EQ(refused->status, 403);
      EXPECT_EQ(refused->type(), "permission_error");
    }
    EXPECT_TRUE(ours.check({"", "http://"}, on_loopback));
  }
}

TEST(BrowserRulesTest, LoopbackHasItsOwnNamesOnly) {
  const BrowserRules ours = rules();
  for (const char* host : {"", "localhost", "LOCALHOST:1", "127.0.0.1:8080", "127.1.2.3", "[::1]",
                           "[::1]:8080", "::1"}) {
    EXPECT_FALSE(ours.check({host, ""}, true)) << host;
  }
  for (const char* host :
       {"evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example",
        "192.168.0.1", "[fe80::1]", "localhost@evil", "[", "[]", ":8080"}) {
    EXPECT_TRUE(ours.check({host, ""}, true)) << host;
    EXPECT_FALSE(ours.check({host, ""}, false)) << host;
  }
}

TEST(BrowserRulesTest, AllowedOriginsAreLetIn) {
  const BrowserRules some = rules({"https://chat.example:8443", "null"});
  EXPECT_FALSE(some.check({"localhost", "https://chat.example:8443"}, true));
  EXPECT_FALSE(some.check({"localhost", "null"}, true));
  EXPECT_FALSE(some.check({"chat.example:8443", ""}, true));  // a proxy passes its own name on
  EXPECT_TRUE(some.check({"localhost", "https://chat.example"}, true));
  EXPECT_TRUE(some.check({"chat.example", ""}, true));
  EXPECT_EQ(some.shared_with("https://chat.example:8443"), "https://chat.example:8443");
  EXPECT_EQ(some.shared_with("https://evil.example"), "");
  EXPECT_EQ(some.shared_with(""), "");
  const BrowserRules all = rules({"*"});
  EXPECT_FALSE(all.check({"evil.example", "https://evil.example"}, true));
  EXPECT_EQ(all.shared_with("https://evil.example"), "*");
  EXPECT_EQ(rules().shared_with("http://localhost"), "");
}

TEST(HttpAccessTest, NoPageButItsOwnReachesAServerOnLoopback) {
  Wire wire;
  const std::string own = "Origin: http://localhost\r\n";  // the client's Host is localhost
  EXPECT_EQ(HttpClient(wire.port()).post("/cache/drop", R"({"tokens":[1]})", own).status, 200);
  HttpClient foreign(wire.port());
  const HttpResponse refused = foreign.post("/cache/drop", "{}", "Origin: http://evil.example\r\n");
  EXPECT_EQ(refused.status, 403);
  EXPECT_THAT(refused.body, HasSubstr("origin_not_allowed"));
  EXPECT_EQ(refused.headers.count("access-control-allow-origin"), 0U);
  EXPECT_TRUE(foreign.is_closed_by_peer());
  HttpClient rebound(wire.port());
  rebound.send("GET /cache HTTP/1.1\r\nHost: evil.example\r\n\r\n");
  EXPECT_THAT(rebound.read_response().body, HasSubstr("host_not_allowed"));
  HttpClient proxied(wire.port());
  proxied.send("GET http://evil.example/cache HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(proxied.read_response().status, 403);
  wire.expect_well();
}

TEST(HttpAccessTest, AllowedPagesAskForLeaveAndMayReadTheAnswer) {
  Wire wire({.api_keys = {"secret"}, .allowed_origins = {"https://chat.example"}});
  const std::string page = "Origin: https://chat.example\r\n";
  HttpClient client(wire.port());
  client.send("OPTIONS /v1/completions HTTP/1.1\r\nHost: localhost\r\n" + page +
              "Access-Control-Request-Method: POST\r\n\r\n");
  const HttpResponse leave = client.read_response();
  EXPECT_EQ(leave.status, 200);
  EXPECT_EQ(leave.headers.at("access-control-allow-origin"), "https://chat.example");
  EXPECT_EQ(leave.headers.at("vary"), "Origin");
  EXPECT_THAT(leave.headers.at("access-control-allow-methods"), HasSubstr("POST"));
  EXPECT_THAT(leave.headers.at("access-control-allow-headers"), HasSubstr("Authorization"));
  for (const char* stream : {"false", "true"}) {
    const HttpResponse answer =
        client.post("/v1/completions",
                    std::string(R"({"prompt":"Once","max_tokens":2,"stream":)") + stream + "}",
                    page + "Authorization: Bearer secret\r\n");
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.headers.at("access-control-allow-origin"), "https://chat.example");
  }
  EXPECT_EQ(client.get("/health").headers.count("access-control-allow-origin"), 0U);
  const HttpResponse no_key = client.get("/v1/models", page);
  EXPECT_EQ(no_key.status, 401);  // which the page may read
  EXPECT_EQ(no_key.headers.count("access-control-allow-origin"), 1U);
}

TEST(HttpAccessTest, WithoutAllowedOriginsNobodyIsGivenLeave) {
  Wire wire;
  const std::string ask = "Access-Control-Request-Method: POST\r\n\r\n";
  HttpClient own(wire.port()), foreign(wire.port());
  own.send("OPTIONS /tokenize HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n" + ask);
  EXPECT_EQ(own.read_response().status, 405);
  foreign.send("OPTIONS /tokenize HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil\r\n" + ask);
  EXPECT_EQ(foreign.read_response().status, 403);
}

}  // namespace
}  // namespace larder
