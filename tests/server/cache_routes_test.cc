// What the server tells of its cache, and the page that shows it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/api.h"
#include "server/test_server.h"

namespace larder {
namespace {

using testing::HasSubstr;

const char* const kText = "Once upon a time there was a little girl named Lily who had a red ball";

class CacheRoutes : public testing::Test {
 protected:
  void SetUp() override { server_.loop->start(); }
  Json get(const std::string& path, const std::string& query = "") {
    const ApiAnswer answer = server_.api->handle({"GET", path, "", query});
    status_ = answer.reply.status;
    return Json::parse(answer.reply.body);
  }
  Json post(const std::string& path, const Json& body) {
    const ApiAnswer answer = server_.post(path, body.dump());
    status_ = answer.reply.status;
    return Json::parse(answer.reply.body);
  }
  int status_ = 0;
  const TestServer server_;
};

TEST_F(CacheRoutes, TheViewCountsBytesAndStripes) {
  const Json before = get("/cache");
  EXPECT_EQ(status_, 200);
  EXPECT_EQ(before.at("bytes"), 0);
  EXPECT_EQ(before.at("model"), "tiny");
  server_.complete({{"prompt", kText}, {"max_tokens", 4}});
  ASSERT_TRUE(server_.loop->wait_until_done(60));
  const Json after = get("/cache");
  EXPECT_GT(after.at("prefix_tree").at("stripes"), 0);
  EXPECT_EQ(after.at("prefix_tree").at("idle_bytes"), after.at("bytes"));
  EXPECT_GT(after.at("bytes"), 0);
  EXPECT_TRUE(after.at("sequences").empty());
  std::uint64_t kept = 0;
  for (const Json& blocks : after.at("blocks")) {
    EXPECT_EQ(blocks.at("format"), "bf16");
    for (const char* state : {"open", "sealed", "shared"}) EXPECT_EQ(blocks.at(state), 0);
    EXPECT_GT(blocks.at("free"), 0);
    kept += blocks.at("kept").get<std::uint64_t>() * blocks.at("block_bytes").get<std::uint64_t>();
  }
  EXPECT_EQ(after.at("bytes"), kept);
  EXPECT_GT(after.at("totals").at("prefill_tokens"), 0);
}

TEST_F(CacheRoutes, ExplainsWhatWasFoundAndWhy) {
  const Json first = server_.complete({{"prompt", kText}, {"max_tokens", 2}});
  const auto why = [&](const Json& answer) {
    return get("/cache/explain", "request=" + answer.at("id").get<std::string>());
  };
  EXPECT_EQ(why(first).at("reason"), "new_salt");
  EXPECT_EQ(why(server_.complete({{"prompt", kText}, {"max_tokens", 2}})).at("reason"), "covered");
  const Json other = why(
      server_.complete({{"prompt", "Once upon a time there was a big dog"}, {"max_tokens", 2}}));
  EXPECT_EQ(other.at("reason"), "differs");
  EXPECT_GT(other.at("cached_tokens"), 3);
  EXPECT_NE(other.at("first_token_not_cached").at("text"),
            other.at("cached_token_there").at("text"));
  EXPECT_EQ(other.at("gone"), nullptr);
  EXPECT_GT(other.at("step"), 0);
  EXPECT_GT(post("/cache/drop", {{"all", true}}).at("dropped_stripes"), 0);
  const Json dropped = why(server_.complete({{"prompt", kText}, {"max_tokens", 2}}));
  EXPECT_EQ(dropped.at("reason"), "dropped");
  EXPECT_LT(dropped.at("gone").at("step"), dropped.at("step"));
  EXPECT_GE(dropped.at("gone").at("seconds_before"), 0);
  EXPECT_EQ(dropped.at("gone").at("by_sequence"), nullptr);
  get("/cache/explain", "request=unknown");
  EXPECT_EQ(status_, 404);
  EXPECT_EQ(get("/cache/explain").at("error").at("param"), "request");
  EXPECT_EQ(status_, 400);
}

// Whoever could guess the id of another's request would learn how long its prompt was and where it
// left what is cached.
TEST_F(CacheRoutes, IdsTellNothingOfOtherIds) {
  const auto id = [&] {
    return server_.complete({{"prompt", kText}, {"max_tokens", 1}}).at("id").get<std::string>();
  };
  const std::string a = id(), b = id();
  ASSERT_EQ(a.size(), std::string("cmpl-").size() + 32);  // 128 bits
  ASSERT_EQ(b.size(), a.size());
  for (const std::size_t begin : {5, 13, 21, 29}) EXPECT_NE(a.substr(begin, 8), b.substr(begin, 8));
}

TEST_F(CacheRoutes, PinsAndDrops) {
  EXPECT_EQ(post("/cache/pin", {{"prompt", kText}}).at("pinned_tokens"), 0);
  server_.complete({{"prompt", kText}, {"max_tokens", 2}, {"cache_salt", "a"}});
  EXPECT_EQ(post("/cache/pin", {{"prompt", kText}}).at("pinned_tokens"), 0);  // another salt
  const Json body = {{"prompt", kText}, {"cache_salt", "a"}};
  EXPECT_EQ(post("/cache/pin", body).at("pinned_tokens"), 16);
  EXPECT_EQ(get("/cache").at("prefix_tree").at("pinned_stripes"), 1);
  post("/cache/drop", {{"cache_salt", "a"}, {"all", true}});
  EXPECT_EQ(get("/cache").at("prefix_tree").at("stripes"), 1);
  EXPECT_EQ(post("/cache/unpin", body).at("unpinned_tokens"), 16);
  EXPECT_EQ(post("/cache/drop", {{"cache_salt", "a"}, {"all", true}}).at("dropped_stripes"), 1);
  EXPECT_EQ(get("/cache").at("bytes"), 0);
}

TEST_F(CacheRoutes, PinsWhatChatsBeginWith) {
  const Json system = {{"role", "system"}, {"content", kText}};
  const auto chat_of = [&](const char* words) {
    return Json::array({system, {{"role", "user"}, {"content", words}}});
  };
  const Json body = {{"messages", Json::array({system})}};
  const Json early = post("/cache/pin", body);
  EXPECT_EQ(early.at("pinned_tokens"), 0);
  EXPECT_THAT(early.at("note").get<std::string>(), HasSubstr("then pin"));
  server_.chat({{"messages", chat_of("Hi")}, {"max_tokens", 2}});
  const Json pinned = post("/cache/pin", body);
  EXPECT_GE(pinned.at("pinned_tokens"), 16);
  EXPECT_FALSE(pinned.contains("note"));
  post("/cache/drop", {{"all", true}});
  const Json next = server_.chat({{"messages", chat_of("Now")}, {"max_tokens", 2}});
  EXPECT_GE(next.at("usage").at("prompt_tokens_details").at("cached_tokens"),
            pinned.at("pinned_tokens"));
  EXPECT_EQ(post("/cache/unpin", body).at("unpinned_tokens"), pinned.at("pinned_tokens"));
  EXPECT_GT(post("/cache/drop", body).at("dropped_stripes"), 0);
  EXPECT_THAT(post("/cache/pin", {{"prompt", "Hi"}}).at("note").get<std::string>(),
              HasSubstr("whole stripes of 16"));
}

TEST_F(CacheRoutes, TokenizesChatsAsTheyAreAsked) {
  const Json messages = Json::array({{{"role", "user"}, {"content", "Once upon a time"}}});
  const Json tokens = post("/tokenize", {{"messages", messages}});
  const Json chat = server_.chat({{"messages", messages}, {"max_tokens", 1}});
  EXPECT_EQ(tokens.at("count"), chat.at("usage").at("prompt_tokens"));
  EXPECT_LT(post("/tokenize", {{"messages", messages}, {"add_generation_prompt", false}})["count"],
            tokens.at("count"));
  EXPECT_EQ(post("/cache/drop", {{"tokens", tokens.at("tokens")}}).at("dropped_stripes"),
            (tokens.at("count").get<int>() + 15) / 16);
  EXPECT_EQ(post("/tokenize", {{"messages", "x"}}).at("error").at("param"), "messages");
}

TEST_F(CacheRoutes, DropsEverythingOnlyWhenTold) {
  server_.complete({{"prompt", kText}, {"max_tokens", 2}});
  const Json stripes = get("/cache").at("prefix_tree").at("stripes");
  EXPECT_GT(stripes, 0);
  const Json misspelt = post("/cache/drop", {{"promt", "x"}});
  EXPECT_EQ(misspelt.at("error").at("param"), "promt");
  EXPECT_EQ(misspelt.at("error").at("code"), "unknown_field");
  for (const Json& body :
       {Json::object(), Json{{"all", false}}, Json{{"all", 1}}, Json{{"tokens", Json::array()}},
        Json{{"all", true}, {"prompt", "x"}}, Json{{"prompt", "x"}, {"tokens", {1}}},
        Json{{"cache_salt", ""}}, Json{{"all", true}, {"salt", "x"}}}) {
    EXPECT_TRUE(post("/cache/drop", body).contains("error")) << body;
    EXPECT_EQ(status_, 400);
  }
  EXPECT_EQ(post("/cache/pin", {{"all", true}}).at("error").at("param"), "all");
  EXPECT_EQ(post("/cache/drop", {{"prompt", "Tom saw"}}).at("dropped_stripes"), 0);
  EXPECT_EQ(get("/cache").at("prefix_tree").at("stripes"), stripes);
  EXPECT_EQ(post("/cache/drop", {{"all", true}}).at("dropped_stripes"), stripes);
}

TEST_F(CacheRoutes, RefusesWhatMakesNoSense) {
  for (const char* path : {"/cache/pin", "/cache/unpin", "/cache/drop"}) {
    EXPECT_TRUE(post(path, {{"tokens", {1, 99999}}}).contains("error")) << path;
    EXPECT_EQ(status_, 400);
    EXPECT_TRUE(post(path, {{"tokens", "x"}}).contains("error")) << path;
    EXPECT_TRUE(post(path, Json::array()).contains("error")) << path;
  }
  EXPECT_EQ(post("/cache/pin", Json::object()).at("error").at("param"), "prompt");
  EXPECT_EQ(server_.api->handle({"POST", "/cache", "{}"}).reply.status, 405);
}

TEST_F(CacheRoutes, ThePageAsksNobodyElse) {
  const ApiAnswer answer = server_.api->handle({"GET", "/", ""});
  EXPECT_EQ(answer.reply.status, 200);
  EXPECT_EQ(answer.reply.content_type, "text/html; charset=utf-8");
  EXPECT_THAT(answer.reply.body, HasSubstr("</html>"));
  EXPECT_THAT(answer.reply.body, testing::Not(HasSubstr("http://")));
  EXPECT_THAT(answer.reply.body, testing::Not(HasSubstr("https://")));
}

}  // namespace
}  // namespace larder
