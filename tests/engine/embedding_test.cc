// Embeddings: of length 1, of the rows they should be of, the same for any schedule.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "larder/engine.h"

namespace larder {
namespace {

using Vector = std::vector<float>;

EngineOptions options() {
  EngineOptions o;
  o.model_path = std::string(LARDER_MODELS_DIR) + "/stories260K.gguf";
  o.n_context = 128;
  o.n_sequences = 3;
  o.n_threads = 1;
  o.kv.block_tokens = 16;
  return o;
}

std::unique_ptr<Engine> open(const EngineOptions& o) {
  auto engine = Engine::open(o);
  EXPECT_TRUE(engine) << engine.error().message;
  return engine ? std::move(*engine) : nullptr;
}

Request request(const std::vector<std::int32_t>& prompt, Pooling pooling) {
  Request r;
  r.prompt = prompt;
  r.pooling = pooling;
  return r;
}

std::vector<std::int32_t> prompt_of(std::size_t n, std::int32_t first = 3) {
  std::vector<std::int32_t> prompt = {1};
  while (prompt.size() < n) {
    prompt.push_back(3 + (first + static_cast<std::int32_t>(prompt.size()) * 31) % 500);
  }
  return prompt;
}

/// The vectors of all requests, submitted at once.
std::vector<Vector> run(Engine& engine, const std::vector<Request>& requests) {
  std::vector<RequestId> ids;
  for (const Request& r : requests) ids.push_back(*engine.submit(r));
  std::vector<Vector> out(requests.size());
  while (!engine.idle()) {
    const auto report = engine.step();
    EXPECT_TRUE(report.has_value());
    for (const TokenEvent& event : report->events) {
      if (event.embedding.empty()) continue;
      EXPECT_EQ(event.token, -1);
      EXPECT_EQ(event.finish, FinishReason::stop);
      out.at(static_cast<std::size_t>(event.request - ids.front())) = event.embedding;
    }
  }
  return out;
}

double dot(const Vector& a, const Vector& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += double{a[i]} * double{b[i]};
  return sum;
}

TEST(Embedding, IsOfLengthOneAndOfTheRowsAskedFor) {
  const auto engine = open(options());
  const auto two = prompt_of(2);
  const auto vectors =
      run(*engine, {request({two[0]}, Pooling::last), request(two, Pooling::last),
                    request(two, Pooling::mean), request({two[0]}, Pooling::mean)});
  for (const Vector& v : vectors) EXPECT_NEAR(dot(v, v), 1, 1e-5);
  EXPECT_EQ(vectors[0], vectors[3]);
  EXPECT_NE(vectors[1], vectors[2]);
  // The mean lies in the plane of its two rows: nothing is left beside them.
  const Vector &a = vectors[0], &b = vectors[1], &mean = vectors[2];
  const double ab = dot(a, b), ma = dot(mean, a), mb = dot(mean, b);
  const double x = (ma - ab * mb) / (1 - ab * ab), y = (mb - ab * ma) / (1 - ab * ab);
  EXPECT_GT(x, 0);
  EXPECT_GT(y, 0);
  for (std::size_t i = 0; i < mean.size(); ++i) EXPECT_NEAR(x * a[i] + y * b[i], mean[i], 1e-4);
  EXPECT_EQ(engine->stats().kv_bytes, 0U);
}

TEST(Embedding, IsTheSameForAnySchedule) {
  std::vector<Request> requests;
  for (const std::size_t n : {100U, 17U, 64U, 90U, 1U}) {
    requests.push_back(request(prompt_of(n, static_cast<std::int32_t>(n)), Pooling::mean));
    requests.push_back(request(prompt_of(n, static_cast<std::int32_t>(n)), Pooling::last));
  }
  std::vector<Vector> alone;
  for (const Request& r : requests) alone.push_back(run(*open(options()), {r}).front());
  EngineOptions narrow = options();
  const std::uint64_t one_context = [&] {
    narrow.n_sequences = 1;
    return open(narrow)->stats().kv_budget_bytes;
  }();
  for (const std::uint32_t n_batch : {3U, 16U, 512U}) {
    for (const bool caching : {false, true}) {
      EngineOptions o = options();
      o.n_batch = n_batch;
      o.n_threads = 2;
      o.kv.prefix_caching = caching;
      if (n_batch == 16) o.kv.memory_bytes = one_context;  // they preempt each other
      const auto engine = open(o);
      EXPECT_EQ(run(*engine, requests), alone) << n_batch << (caching ? " caching" : "");
      EXPECT_EQ(run(*engine, requests), alone) << "again";
    }
  }
}

TEST(Embedding, ExcludesWhatNeedsAContinuation) {
  const auto engine = open(options());
  Request two = request({1, 2}, Pooling::mean);
  two.n_samples = 2;
  EXPECT_FALSE(engine->submit(two));
  Request scored = request({1, 2}, Pooling::last);
  scored.prompt_logprobs = true;
  const auto refused = engine->submit(scored);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, testing::HasSubstr("pooling excludes"));
}

}  // namespace
}  // namespace larder
