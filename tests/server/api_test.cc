// The routes as clients of OpenAI's API know them, over the embedded model.
#include "server/api.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "server/test_server.h"

namespace larder {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class ApiTest : public testing::Test {
 protected:
  void SetUp() override { server_.loop->start(); }
  Json get(const std::string& path) {
    const ApiAnswer answer = server_.api->handle({"GET", path, ""});
    EXPECT_EQ(answer.reply.status, 200);
    return Json::parse(answer.reply.body);
  }
  std::vector<Json> stream(const std::string& path, Json body) {
    body["stream"] = true;
    const ApiAnswer answer = server_.post(path, body.dump());
    EXPECT_EQ(answer.reply.content_type, "text/event-stream");
    if (!answer.generation) throw std::runtime_error(answer.reply.body);
    return chunks_of(TestServer::drive(*answer.generation));
  }
  const TestServer server_;
};

Json user(const std::string& text) { return Json::array({{{"role", "user"}, {"content", text}}}); }

TEST_F(ApiTest, Completion) {
  const Json a =
      server_.complete({{"model", "alias"}, {"prompt", "Once upon a time"}, {"max_tokens", 8}});
  EXPECT_THAT(a.at("id").get<std::string>(), StartsWith("cmpl-"));
  EXPECT_EQ(a.at("object"), "text_completion");
  EXPECT_EQ(a.at("created"), 1700000000);
  EXPECT_EQ(a.at("model"), "alias");
  const Json& choice = a.at("choices").at(0);
  EXPECT_EQ(choice.at("index"), 0);
  EXPECT_EQ(choice.at("finish_reason"), "length");
  EXPECT_EQ(choice.at("logprobs"), nullptr);
  EXPECT_FALSE(choice.at("text").get<std::string>().empty());
  const Json& usage = a.at("usage");
  EXPECT_EQ(usage.at("completion_tokens"), 8);
  EXPECT_EQ(usage.at("total_tokens"), usage.at("prompt_tokens").get<int>() + 8);
  EXPECT_EQ(usage.at("prompt_tokens_details").at("cached_tokens"), 0);
  const Json b = server_.complete({{"prompt", "Once upon a time"}});
  EXPECT_EQ(b.at("usage").at("completion_tokens"), 16);
  EXPECT_THAT(b.at("choices").at(0).at("text").get<std::string>(),
              StartsWith(choice.at("text").get<std::string>()));
  EXPECT_NE(a.at("id"), b.at("id"));
}

TEST_F(ApiTest, CachedTokensAreCounted) {
  const std::string text = "Once upon a time there was a little girl named Lily who had a dog";
  const Json first = server_.complete({{"prompt", text}, {"max_tokens", 3}});
  const Json again = server_.complete({{"prompt", text}, {"max_tokens", 3}});
  const auto cached = [](const Json& a) {
    return a.at("usage").at("prompt_tokens_details").at("cached_tokens").get<int>();
  };
  EXPECT_EQ(cached(first), 0);
  EXPECT_EQ(cached(again), again.at("usage").at("prompt_tokens").get<int>() - 1);
  EXPECT_EQ(first.at("choices"), again.at("choices"));
  const Json other =
      server_.complete({{"prompt", text}, {"max_tokens", 3}, {"cache_salt", "\u0001 salt"}});
  EXPECT_EQ(cached(other), 0);
}

TEST_F(ApiTest, SeveralPromptsAndSamples) {
  const Json tokens = Json::array({1, 403, 407});
  const Json a = server_.complete({{"prompt", Json::array({"Once upon", tokens})},
                                   {"n", 2},
                                   {"temperature", 1},
                                   {"seed", 7},
                                   {"max_tokens", 4}});
  ASSERT_EQ(a.at("choices").size(), 4U);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(a.at("choices").at(i).at("index"), i);
  EXPECT_EQ(a.at("usage").at("completion_tokens"), 16);
  const Json alone = server_.complete(
      {{"prompt", tokens}, {"n", 2}, {"temperature", 1}, {"seed", 7}, {"max_tokens", 4}});
  EXPECT_EQ(a.at("choices").at(2).at("text"), alone.at("choices").at(0).at("text"));
  EXPECT_EQ(a.at("choices").at(3).at("text"), alone.at("choices").at(1).at("text"));
}

TEST_F(ApiTest, CompletionStreamsTheSameText) {
  const Json body = {{"prompt", "Once upon a time"}, {"max_tokens", 12}, {"n", 2}};
  const Json whole = server_.complete(body);
  std::vector<std::string> texts(2), reasons(2);
  for (const Json& chunk : stream("/v1/completions", body)) {
    EXPECT_FALSE(chunk.contains("usage"));
    for (const Json& choice : chunk.at("choices")) {
      texts.at(choice.at("index")) += choice.at("text");
      if (choice.at("finish_reason").is_string()) {
        reasons.at(choice.at("index")) = choice.at("finish_reason");
      }
    }
  }
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(texts[i], whole.at("choices").at(i).at("text"));
    EXPECT_EQ(reasons[i], "length");
  }
}

TEST_F(ApiTest, StopTextsEndAndAreNotShown) {
  const Json body = {{"prompt", "Once upon a time"}, {"max_tokens", 40}};
  const std::string text = server_.complete(body).at("choices").at(0).at("text");
  const std::string stop = text.substr(10, 5);
  Json stopping = body;
  stopping["stop"] = Json::array({"never there", stop});
  const Json a = server_.complete(stopping);
  EXPECT_EQ(a.at("choices").at(0).at("text"), text.substr(0, text.find(stop)));
  EXPECT_EQ(a.at("choices").at(0).at("finish_reason"), "stop");
}

TEST_F(ApiTest, LogprobsOfACompletion) {
  const Json a = server_.complete({{"prompt", "Once upon"}, {"max_tokens", 3}, {"logprobs", 2}});
  const Json& logprobs = a.at("choices").at(0).at("logprobs");
  ASSERT_EQ(logprobs.at("tokens").size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    const Json& top = logprobs.at("top_logprobs").at(i);
    EXPECT_EQ(top.size(), 2U);
    EXPECT_EQ(top.at(logprobs.at("tokens").at(i).get<std::string>()),
              logprobs.at("token_logprobs").at(i));  // greedy: the best is the chosen one
    EXPECT_LE(logprobs.at("token_logprobs").at(i).get<double>(), 0);
  }
  EXPECT_EQ(logprobs.at("text_offset").at(0), 0);
  EXPECT_EQ(logprobs.at("text_offset").at(1),
            logprobs.at("tokens").at(0).get<std::string>().size());
}

TEST_F(ApiTest, EchoScoresThePrompt) {
  const Json a = server_.complete(
      {{"prompt", "Once upon a time"}, {"max_tokens", 0}, {"echo", true}, {"logprobs", 0}});
  const Json& choice = a.at("choices").at(0);
  EXPECT_EQ(choice.at("text"), "Once upon a time");
  EXPECT_EQ(a.at("usage").at("completion_tokens"), 0);
  const Json& scored = choice.at("logprobs").at("token_logprobs");
  ASSERT_EQ(scored.size(), a.at("usage").at("prompt_tokens").get<std::size_t>());
  EXPECT_EQ(scored.at(0), nullptr);
  for (std::size_t i = 1; i < scored.size(); ++i) EXPECT_LT(scored.at(i).get<double>(), 0);
  const Json b =
      server_.complete({{"prompt", "Once upon a time"}, {"max_tokens", 4}, {"echo", true}});
  EXPECT_THAT(b.at("choices").at(0).at("text").get<std::string>(), StartsWith("Once upon a time"));
  EXPECT_GT(b.at("choices").at(0).at("text").get<std::string>().size(), 16U);
}

TEST_F(ApiTest, Chat) {
  const Json a = server_.chat({{"messages", user("Tell me")}, {"max_completion_tokens", 6}});
  EXPECT_THAT(a.at("id").get<std::string>(), StartsWith("chatcmpl-"));
  EXPECT_EQ(a.at("object"), "chat.completion");
  const Json& choice = a.at("choices").at(0);
  EXPECT_EQ(choice.at("message").at("role"), "assistant");
  EXPECT_EQ(a.at("usage").at("completion_tokens"), 6);
  // The template is what the model sees.
  EncodeOptions options;
  options.add_special = false;
  const auto tokens = server_.engine->tokenizer().encode("user: Tell me\nassistant:", options);
  const Json same = server_.complete({{"prompt", tokens}, {"max_tokens", 6}});
  EXPECT_EQ(choice.at("message").at("content"), same.at("choices").at(0).at("text"));
}

TEST_F(ApiTest, ChatTakesPartsAndTemplateArguments) {
  const Json parts =
      Json::array({{{"type", "text"}, {"text", "Tell "}}, {{"type", "text"}, {"text", "me"}}});
  const Json a =
      server_.chat({{"messages", Json::array({{{"role", "user"}, {"content", parts}}})},
                    {"chat_template_kwargs", {{"tone", "kind"}, {"messages", "ignored"}}},
                    {"max_tokens", 1}});
  EncodeOptions options;
  options.add_special = false;
  const auto tokens =
      server_.engine->tokenizer().encode("user: Tell me\n(kind) assistant:", options);
  EXPECT_EQ(a.at("usage").at("prompt_tokens"), tokens.size());
}

TEST_F(ApiTest, ChatStreamsRoleContentAndUsage) {
  const Json body = {{"messages", user("Tell me")}, {"max_tokens", 9}};
  const Json whole = server_.chat(body);
  Json streaming = body;
  streaming["stream_options"] = {{"include_usage", true}};
  const auto chunks = stream("/v1/chat/completions", streaming);
  ASSERT_GE(chunks.size(), 3U);
  EXPECT_EQ(chunks[0].at("choices").at(0).at("delta").at("role"), "assistant");
  std::string text;
  for (std::size_t i = 0; i + 1 < chunks.size(); ++i) {
    EXPECT_EQ(chunks[i].at("object"), "chat.completion.chunk");
    EXPECT_EQ(chunks[i].at("usage"), nullptr);
    text += chunks[i].at("choices").at(0).at("delta").value("content", "");
  }
  EXPECT_EQ(text, whole.at("choices").at(0).at("message").at("content"));
  EXPECT_EQ(chunks[chunks.size() - 2].at("choices").at(0).at("finish_reason"), "length");
  EXPECT_TRUE(chunks.back().at("choices").empty());
  EXPECT_EQ(chunks.back().at("usage").at("completion_tokens"), 9);
  EXPECT_TRUE(chunks.back().at("usage").at("prompt_tokens_details").contains("cached_tokens"));
}

TEST_F(ApiTest, ChatLogprobsStreamedAndWhole) {
  const Json body = {
      {"messages", user("Tell me")}, {"max_tokens", 5}, {"logprobs", true}, {"top_logprobs", 3}};
  const Json whole = server_.chat(body);
  const Json& content = whole.at("choices").at(0).at("logprobs").at("content");
  ASSERT_EQ(content.size(), 5U);
  EXPECT_EQ(content.at(0).at("top_logprobs").size(), 3U);
  EXPECT_EQ(content.at(0).at("top_logprobs").at(0).at("token"), content.at(0).at("token"));
  const auto bytes = content.at(0).at("bytes").get<std::vector<int>>();
  EXPECT_EQ(std::string(bytes.begin(), bytes.end()), content.at(0).at("token"));
  Json streamed = Json::array();
  for (const Json& chunk : stream("/v1/chat/completions", body)) {
    const Json& logprobs = chunk.at("choices").at(0).at("logprobs");
    if (logprobs.is_null()) continue;
    for (const Json& entry : logprobs.at("content")) streamed.push_back(entry);
  }
  EXPECT_EQ(streamed, content);
}

TEST_F(ApiTest, LogitBiasAndSeeds) {
  const Json first = server_.complete({{"prompt", "Once"}, {"max_tokens", 1}, {"logprobs", 1}});
  const auto token = server_.engine->tokenizer().encode("Lily", {.add_special = false}).front();
  const Json forced = server_.complete(
      {{"prompt", "Once"}, {"max_tokens", 3}, {"logit_bias", {{std::to_string(token), 100}}}});
  EXPECT_NE(first.at("choices").at(0).at("text"), forced.at("choices").at(0).at("text"));
  const auto drawn = [this](Json seed) {
    return server_
        .complete({{"prompt", "Once"}, {"max_tokens", 20}, {"temperature", 1.5}, {"seed", seed}})
        .at("choices");
  };
  EXPECT_EQ(drawn(1), drawn(1));
  EXPECT_EQ(drawn(-1), drawn(-1));
  EXPECT_NE(drawn(1), drawn(2));
}

TEST_F(ApiTest, Models) {
  const Json models = get("/v1/models");
  EXPECT_EQ(models.at("object"), "list");
  ASSERT_EQ(models.at("data").size(), 2U);
  EXPECT_EQ(models.at("data").at(0).at("id"), "tiny");
  EXPECT_EQ(models.at("data").at(0).at("max_model_len"), 128);
  EXPECT_EQ(get("/v1/models/alias").at("object"), "model");
}

TEST_F(ApiTest, TokensThereAndBack) {
  const Json vllm = server_.finish(server_.post("/tokenize", R"({"prompt":"Once upon a time"})"));
  const auto tokens = server_.engine->tokenizer().encode("Once upon a time", {});
  EXPECT_EQ(vllm.at("tokens"), Json(tokens));
  EXPECT_EQ(vllm.at("count"), tokens.size());
  EXPECT_EQ(vllm.at("max_model_len"), 128);
  const Json llama = server_.finish(server_.post("/tokenize", R"({"content":"Once upon a time"})"));
  EXPECT_EQ(llama.at("count"), tokens.size() - 1);  // no BOS
  const Json back = server_.finish(server_.post("/detokenize", Json{{"tokens", tokens}}.dump()));
  EXPECT_EQ(back.at("prompt"), "Once upon a time");
  EXPECT_EQ(back.at("content"), "Once upon a time");
}

TEST_F(ApiTest, HealthVersionMetrics) {
  EXPECT_EQ(get("/health").at("status"), "ok");
  EXPECT_TRUE(get("/version").at("version").is_string());
  server_.complete({{"prompt", "Once"}, {"max_tokens", 4}});
  ASSERT_TRUE(server_.loop->wait_until_done(60));
  const std::string text = server_.api->handle({"GET", "/metrics", ""}).reply.body;
  for (const char* line :
       {"larder:num_requests_running{model_name=\"tiny\"}",
        "larder:generation_tokens_total{model_name=\"tiny\"} 4",
        "larder:request_success_total{finished_reason=\"length\",model_name=\"tiny\"} 1",
        "larder:time_to_first_token_seconds_count{model_name=\"tiny\"} 1",
        "larder:inter_token_latency_seconds_count{model_name=\"tiny\"} 3",
        "larder:prefix_cache_queries_total", "larder:kv_cache_usage_perc",
        "larder:num_preemptions_total", "larder:kv_block_lifetime_seconds_bucket",
        "larder:e2e_request_latency_seconds_bucket"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(Metrics, RequestsAreNoSequences) {
  Metrics metrics("tiny");
  LoopStats stats;
  stats.n_running = 2;
  stats.n_waiting = 5;
  stats.engine.n_running = 7;
  const std::string text = metrics.text(stats);
  EXPECT_THAT(text, HasSubstr("larder:num_requests_running{model_name=\"tiny\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("larder:num_requests_waiting{model_name=\"tiny\"} 5\n"));
}

TEST(ApiBeforeStart, ALeavingReaderCancels) {
  const TestServer server;  // not started, so that the reader leaves before the first token
  ASSERT_TRUE(server.post("/v1/completions", R"({"prompt":"Once","max_tokens":100})").generation);
  server.loop->start();
  EXPECT_TRUE(server.loop->wait_until_done(60));
  const std::string text = server.api->handle({"GET", "/metrics", ""}).reply.body;
  EXPECT_THAT(text, HasSubstr("{finished_reason=\"length\",model_name=\"tiny\"} 0"));
  EXPECT_THAT(text, HasSubstr("larder:generation_tokens_total{model_name=\"tiny\"} 0"));
}

TEST_F(ApiTest, AStoppedServerReturnsWhatThereIs) {
  const ApiAnswer answer =
      server_.post("/v1/completions", R"({"prompt":"Once","max_tokens":120,"ignore_eos":true})");
  answer.generation->channel().wait();
  server_.loop->stop();
  while (!answer.generation->ended()) answer.generation->advance();
  EXPECT_FALSE(answer.generation->error());
  const Json whole = Json::parse(answer.generation->whole());
  EXPECT_GE(whole.at("usage").at("completion_tokens"), 1);
  EXPECT_THAT(whole.at("choices").at(0).at("finish_reason").get<std::string>(),
              testing::AnyOf("abort", "length"));
}

}  // namespace
}  // namespace larder
