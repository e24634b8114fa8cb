// Policies that requests name, over the API.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "server/test_server.h"

namespace larder {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

const char* const kText =
    "Once upon a time there was a little girl named Lily who had a red ball and a big brown dog. "
    "They went to the park every day and played with the ball until it was dark and they were "
    "tired, and then they went home.";

Json body_of(const Json& more) {
  Json body = {{"prompt", kText}, {"max_tokens", 8}, {"ignore_eos", true}};
  if (!more.is_null()) body.update(more);
  return body;
}

Json details_of(const Json& answer) { return answer.at("usage").at("kv_cache_details"); }

TEST(RequestPolicyFields, RowsAreKeptAsTheRequestSaysAndCounted) {
  const TestServer server({.n_context = 256});
  server.loop->start();
  const Json full = server.complete(body_of({}));
  const int n_prompt = full.at("usage").at("prompt_tokens").get<int>();
  ASSERT_GT(n_prompt, 60);
  EXPECT_EQ(details_of(full).at("kept_tokens"), n_prompt + 7);
  EXPECT_EQ(details_of(full).at("dropped_tokens"), 0);
  for (const Json& keep : {Json("32"), Json(32), Json(32.0)}) {
    const Json cut = server.complete(
        body_of({{"kv_policy", "knorm:sinks=2,recent=4,every=16"}, {"kv_keep", keep}}));
    ASSERT_TRUE(cut.contains("usage")) << cut.dump();
    const Json details = details_of(cut);
    EXPECT_GE(details.at("kept_tokens"), 32);
    EXPECT_LE(details.at("kept_tokens"), 32 + 15);
    EXPECT_EQ(details.at("kept_tokens").get<double>() + details.at("dropped_tokens").get<double>(),
              n_prompt + 7);
    EXPECT_LT(details.at("bytes"), details_of(full).at("bytes"));
  }
  const Json share = server.complete(
      body_of({{"kv_policy", "snapkv:recent=4,window=4"}, {"kv_keep", 0.5}, {"n", 2}}));
  ASSERT_TRUE(share.contains("usage")) << share.dump();
  EXPECT_EQ(details_of(share).at("kept_tokens"), (n_prompt + 1) / 2 + 7);
  const Json chat = server.chat({{"messages", {{{"role", "user"}, {"content", kText}}}},
                                 {"max_tokens", 8},
                                 {"ignore_eos", true},
                                 {"kv_policy", "window:sinks=2,every=8"},
                                 {"kv_keep", 40}});
  ASSERT_TRUE(chat.contains("usage")) << chat.dump();
  EXPECT_LE(details_of(chat).at("kept_tokens"), 48);
}

TEST(RequestPolicyFields, TheServersOwnHoldsUnlessTheRequestSaysOtherwise) {
  const TestServer server(
      {.n_context = 256, .policy = "knorm:sinks=2,recent=4,every=16", .keep = "32"});
  server.loop->start();
  EXPECT_GT(details_of(server.complete(body_of({}))).at("dropped_tokens"), 0);
  EXPECT_EQ(details_of(server.complete(body_of({{"kv_keep", "200"}}))).at("dropped_tokens"), 0);
  const Json none = server.complete(body_of({{"kv_policy", "none"}, {"max_tokens", 4}}));
  ASSERT_TRUE(none.contains("usage")) << none.dump();
  EXPECT_EQ(details_of(none).at("dropped_tokens"), 0);
}

TEST(RequestPolicyFields, WhatMakesNoSenseIs400WithOneSentence) {
  const TestServer server({.n_context = 256});
  server.loop->start();
  const auto error_of = [&](const Json& more) {
    Json body = body_of(more);
    const Json whole = server.complete(body);
    EXPECT_TRUE(whole.contains("error")) << whole.dump();
    body["stream"] = true;  // the same before a stream has begun
    ApiAnswer answer = server.post("/v1/completions", body.dump());
    if (!answer.generation) {
      EXPECT_EQ(answer.reply.status, 400);
      return whole.value("error", Json());
    }
    TestServer::drive(*answer.generation);
    EXPECT_EQ(answer.generation->error().value_or(ApiError{0, "", {}, {}}).status, 400);
    return whole.value("error", Json());
  };
  const Json unknown = error_of({{"kv_policy", "nothing"}, {"kv_keep", 32}});
  EXPECT_THAT(unknown.at("message").get<std::string>(), HasSubstr("'nothing' is not known"));
  EXPECT_EQ(unknown.at("param"), "kv_policy");
  EXPECT_EQ(unknown.at("code"), "invalid_value");
  EXPECT_EQ(error_of({{"kv_policy", "knorm"}, {"kv_keep", 20}}).at("param"), "kv_keep");
  EXPECT_EQ(error_of({{"kv_policy", "quest"}, {"kv_keep", 64}}).at("code"), "unsupported");
  EXPECT_EQ(error_of({{"kv_policy", 3}}).at("param"), "kv_policy");
  EXPECT_EQ(error_of({{"kv_policy", "knorm"}, {"kv_keep", true}}).at("param"), "kv_keep");
  EXPECT_EQ(error_of({{"kv_policy", std::string(5000, 'a')}}).at("param"), "kv_policy");
  EXPECT_EQ(error_of({{"kv_keep", 32}}).at("param"), "kv_keep");
  EXPECT_THAT(error_of({{"kv_policy", "knorm:heads=/etc/passwd"}, {"kv_keep", 64}})
                  .at("message")
                  .get<std::string>(),
              AllOf(HasSubstr("cannot be named here"), Not(HasSubstr("kv-policy"))));
  EXPECT_THAT(error_of({{"kv_policy", "/etc/policy.yaml"}, {"kv_keep", 64}})
                  .at("message")
                  .get<std::string>(),
              HasSubstr("is a file"));
  const Json after = server.complete(body_of({}));  // the server goes on
  EXPECT_TRUE(after.contains("usage")) << after.dump();
}

TEST(RequestPolicyFields, ExplainNamesThePolicyAndCountsTheRows) {
  const TestServer server({.n_context = 256});
  server.loop->start();
  const auto explain = [&](const Json& answer) {
    const std::string id = answer.at("id").get<std::string>();
    return Json::parse(
        server.api->handle({"GET", "/cache/explain", "", "request=" + id}).reply.body);
  };
  const Json body = body_of({{"kv_policy", "knorm:sinks=2,recent=4,every=16"}, {"kv_keep", 32}});
  const Json first = server.complete(body);
  const Json why = explain(first);
  EXPECT_EQ(why.at("policy"), "knorm:sinks=2,recent=4,every=16, 32 rows kept");
  EXPECT_EQ(why.at("kept_tokens"), details_of(first).at("kept_tokens"));
  EXPECT_EQ(why.at("dropped_tokens"), details_of(first).at("dropped_tokens"));
  EXPECT_EQ(why.at("kv_bytes"), details_of(first).at("bytes"));
  const Json again = explain(server.complete(body));  // from the compressed beginning
  EXPECT_GT(again.at("cached_tokens"), 32);
  EXPECT_EQ(explain(server.complete(body_of({}))).at("policy"), "none");
  const Json view = Json::parse(server.api->handle({"GET", "/cache", "", ""}).reply.body);
  EXPECT_GT(view.at("prefix_tree").at("compressed_prefixes"), 0);
  EXPECT_EQ(view.at("policy"), "none");  // the server's own
  EXPECT_EQ(view.at("named_policies"), 1);
}

}  // namespace
}  // namespace larder
