// The embedded model behind a loop and an API, without sockets.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "larder/engine.h"
#include "model/text/chat_prompt.h"
#include "server/api.h"

namespace larder {

using Json = nlohmann::ordered_json;

/// A template that any model can follow.
inline constexpr const char* kTestTemplate =
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if tone %}({{ tone }}) {% endif %}{% if add_generation_prompt %}assistant:{% endif %}";

struct TestServerOptions {
  std::uint32_t n_sequences = 4, n_context = 128;
  LoopLimits limits = {};
  const char* chat_template = kTestTemplate;  // null: none
  bool prefix_caching = true;
  const char* policy = "";
  const char* keep = "";
};

struct TestServer {
  explicit TestServer(const TestServerOptions& wanted = {}) {
    EngineOptions options;
    options.model_path = std::string(LARDER_MODELS_DIR) + "/stories260K.gguf";
    options.n_context = wanted.n_context;
    options.n_sequences = wanted.n_sequences;
    options.n_batch = 64;
    options.n_threads = 1;
    options.kv.block_tokens = 16;
    options.kv.prefix_caching = wanted.prefix_caching;
    options.kv.policy = wanted.policy;
    options.kv.keep = wanted.keep;
    auto opened = Engine::open(options);
    if (!opened) throw std::runtime_error(opened.error().message);
    engine = std::move(*opened);
    metrics = std::make_unique<Metrics>("tiny");
    loop = std::make_unique<EngineLoop>(*engine, wanted.limits, metrics.get());
    std::optional<ChatTemplate> chat;
    if (wanted.chat_template) chat = std::move(*ChatTemplate::parse(wanted.chat_template));
    ApiOptions api_options;
    api_options.model_names = {"tiny", "alias"};
    api_options.sampling.temperature = 0;
    api_options.now = [] { return std::int64_t{1700000000}; };
    api = std::make_unique<Api>(*engine, *loop, *metrics, std::move(api_options), std::move(chat));
  }

  ApiAnswer post(const std::string& path, const std::string& body) const {
    return api->handle({"POST", path, body});
  }
  /// To the end, and the whole answer; an error's JSON when it ends with one.
  Json finish(ApiAnswer answer) const {
    if (!answer.generation) return Json::parse(answer.reply.body);
    drive(*answer.generation);
    if (const auto error = answer.generation->error()) return Json::parse(error_json(*error));
    return Json::parse(answer.generation->whole());
  }
  Json complete(const Json& body) const { return finish(post("/v1/completions", body.dump())); }
  Json chat(const Json& body) const { return finish(post("/v1/chat/completions", body.dump())); }

  /// All the bytes of a stream.
  static std::string drive(GenerationReply& reply) {
    std::string bytes;
    while (!reply.ended()) {
      reply.channel().wait();
      bytes += reply.advance();
    }
    return bytes;
  }

  std::unique_ptr<Engine> engine;
  std::unique_ptr<Metrics> metrics;
  std::unique_ptr<EngineLoop> loop;
  std::unique_ptr<Api> api;
};

/// The JSON objects of a stream; checks its form and that it ends as it should.
inline std::vector<Json> chunks_of(const std::string& bytes) {
  std::vector<Json> chunks;
  std::size_t begin = 0;
  bool done = false;
  while (begin < bytes.size()) {
    const std::size_t end = bytes.find("\n\n", begin);
    EXPECT_NE(end, std::string::npos);
    const std::string line = bytes.substr(begin, end - begin);
    EXPECT_EQ(line.substr(0, 6), "data: ");
    EXPECT_FALSE(done) << "something after [DONE]";
    done = line == "data: [DONE]";
    if (!done) chunks.push_back(Json::parse(line.substr(6)));
    begin = end + 2;
  }
  EXPECT_TRUE(done);
  return chunks;
}

}  // namespace larder
