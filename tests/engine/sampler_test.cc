#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>

namespace larder {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

SamplingOptions neutral(float temperature) {
  SamplingOptions o;
  o.temperature = temperature;
  o.top_k = 0;
  o.top_p = 1;
  o.min_p = 0;
  return o;
}

TokenId draw_one(const SamplingOptions& options, const std::vector<float>& logits,
                 const std::vector<TokenId>& history = {}) {
  Sampler sampler(options, 0, static_cast<std::uint32_t>(logits.size()));
  return sampler.sample(logits, history);
}

std::vector<double> probabilities(const std::vector<float>& logits, double temperature) {
  std::vector<double> p(logits.size());
  for (std::size_t i = 0; i < p.size(); ++i) p[i] = std::exp(logits[i] / temperature);
  const double total = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= total;
  return p;
}

// Chi-square of 20000 draws against `expected`; tokens of probability 0 must never come.
void expect_distribution(const SamplingOptions& options, const std::vector<float>& logits,
                         std::vector<double> expected) {
  const double total = std::accumulate(expected.begin(), expected.end(), 0.0);
  constexpr int kDraws = 20000;
  std::vector<int> counts(logits.size());
  Sampler sampler(options, 3, static_cast<std::uint32_t>(logits.size()));
  for (int i = 0; i < kDraws; ++i) ++counts[static_cast<std::size_t>(sampler.sample(logits, {}))];
  double chi = 0;
  int freedom = -1;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double e = expected[i] / total * kDraws;
    if (e == 0) {
      ASSERT_EQ(counts[i], 0) << "token " << i;
      continue;
    }
    chi += (counts[i] - e) * (counts[i] - e) / e;
    ++freedom;
  }
  // Wilson-Hilferty: chi-square exceeds this with probability 0.001; the seed is fixed.
  const double f = std::max(freedom, 1);
  const double limit = f * std::pow(1 - 2 / (9 * f) + 3.09 * std::sqrt(2 / (9 * f)), 3);
  EXPECT_LT(chi, limit) << freedom << " degrees of freedom";
}

std::vector<float> some_logits(std::size_t n) {
  std::mt19937 random(5);
  std::vector<float> logits(n);
  for (float& x : logits) x = static_cast<float>(random() % 1000) / 250.0F - 2.0F;
  return logits;
}

TEST(Sampler, GreedyTakesTheBestAndTheLowerOfTwo) {
  EXPECT_EQ(draw_one(neutral(0), {1, 5, 2, 5}), 1);
  EXPECT_EQ(draw_one(neutral(0), {-kInf, -3}), 1);
}

TEST(Sampler, StrangeLogitsAreDefined) {
  for (const float temperature : {0.0F, 1.0F}) {
    SamplingOptions o = neutral(temperature);
    for (const std::uint32_t k : {0U, 2U}) {
      o.top_k = k;
      EXPECT_EQ(draw_one(o, {kNan, kNan, kNan, kNan}), 0);
      EXPECT_EQ(draw_one(o, {-kInf, -kInf, -kInf, -kInf}), 0);
      EXPECT_EQ(draw_one(o, {kNan, -kInf, 0.5F, kNan}), 2);
      EXPECT_EQ(draw_one(o, {1, kInf, kNan, 3}), 1);
    }
  }
  EXPECT_EQ(draw_one(neutral(1e-40F), {1, 2, 1.9F}), 1);  // a denormal temperature
  const TokenId any = draw_one(neutral(3e38F), {1, 2, 3});
  EXPECT_TRUE(any >= 0 && any < 3);
}

TEST(Sampler, FollowsTheSoftmax) {
  const auto logits = some_logits(12);
  expect_distribution(neutral(1.0F), logits, probabilities(logits, 1.0));
  expect_distribution(neutral(0.5F), logits, probabilities(logits, 0.5));
}

TEST(Sampler, TopKKeepsTheKBest) {
  const auto logits = some_logits(40);
  std::vector<float> sorted = logits;
  std::sort(sorted.rbegin(), sorted.rend());
  auto p = probabilities(logits, 1.0);
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (logits[i] < sorted[6]) p[i] = 0;
  }
  SamplingOptions o = neutral(1.0F);
  o.top_k = 7;
  expect_distribution(o, logits, p);
}

TEST(Sampler, TopKPrefersLowerIdsAmongEquals) {
  SamplingOptions o = neutral(1.0F);
  o.top_k = 2;
  expect_distribution(o, {1, 1, 1, 1, 0}, {1, 1, 0, 0, 0});
  expect_distribution(o, {0, 1, 1, 2, 1}, {0, std::exp(1.0), 0, std::exp(2.0), 0});
}

TEST(Sampler, TopPKeepsTheShortestRun) {
  std::vector<float> logits;
  for (const double p : {0.05, 0.4, 0.1, 0.3, 0.15}) {
    logits.push_back(static_cast<float>(std::log(p)));
  }
  SamplingOptions o = neutral(1.0F);
  o.top_p = 0.8F;  // 0.4 + 0.3 is short of it, 0.15 more is not
  expect_distribution(o, logits, {0, 0.4, 0, 0.3, 0.15});
  o.top_p = 0;
  EXPECT_EQ(draw_one(o, logits), 1);
}

TEST(Sampler, TopPOfALargeVocabularyAgreesWithAFullSort) {
  const auto logits = some_logits(5000);  // hundreds of ties, more than one sorted piece
  auto p = probabilities(logits, 0.7);
  std::vector<std::size_t> order(p.size());
  std::iota(order.begin(), order.end(), 0U);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
  double sum = 0;
  std::vector<bool> kept(p.size());
  for (const std::size_t i : order) {
    kept[i] = true;
    if ((sum += p[i]) >= 0.6) break;
  }
  SamplingOptions o = neutral(0.7F);
  o.top_p = 0.6F;
  Sampler sampler(o, 0, 5000);
  for (int i = 0; i < 2000; ++i) {
    ASSERT_TRUE(kept[static_cast<std::size_t>(sampler.sample(logits, {}))]);
  }
}

TEST(Sampler, MinPIsRelativeToTheBest) {
  std::vector<float> logits;
  for (const double p : {0.05, 0.5, 0.2, 0.15, 0.1}) {
    logits.push_back(static_cast<float>(std::log(p)));
  }
  SamplingOptions o = neutral(1.0F);
  o.min_p = 0.29F;
  expect_distribution(o, logits, {0, 0.5, 0.2, 0.15, 0});
  o.top_k = 2;
  expect_distribution(o, logits, {0, 0.5, 0.2, 0, 0});
  o.min_p = 1;
  EXPECT_EQ(draw_one(o, logits), 1);
}

TEST(Sampler, PenaltiesMatchHandComputedValues) {
  // Greedy shows the order; the margin shows the value.
  SamplingOptions o = neutral(0);
  o.repetition_penalty = 2;
  EXPECT_EQ(draw_one(o, {4, 1.99F}, {0}), 0);        // 4 / 2 = 2
  EXPECT_EQ(draw_one(o, {4, 2.01F}, {0, 0, 0}), 1);  // once, however often it came
  EXPECT_EQ(draw_one(o, {-1, -1.99F}, {0}), 1);      // -1 * 2 = -2
  EXPECT_EQ(draw_one(o, {-1, -2.01F}, {0}), 0);
  o.penalty_window = 2;
  EXPECT_EQ(draw_one(o, {4, 3}, {0, 2, 2}), 0);  // too old to count
  o.penalty_window = 0;
  EXPECT_EQ(draw_one(o, {4, 3}, {0}), 0);
  EXPECT_EQ(draw_one(o, {4, 3}, {-7, 99}), 0);  // outside the vocabulary: passed over
}

TEST(Sampler, PresenceAndFrequencyLookAtTheContinuation) {
  const std::vector<TokenId> prompt = {0, 0, 0};
  const auto second = [&](const SamplingOptions& o, std::vector<float> logits,
                          std::vector<TokenId> continuation) {
    Sampler sampler(o, 0, static_cast<std::uint32_t>(logits.size()));
    EXPECT_EQ(sampler.sample(logits, prompt), 0);  // the prompt is not penalised
    std::vector<TokenId> history = prompt;
    history.insert(history.end(), continuation.begin(), continuation.end());
    return sampler.sample(logits, history);
  };
  SamplingOptions o = neutral(0);
  o.presence_penalty = 0.5F;
  EXPECT_EQ(second(o, {1, 0.51F}, {0, 0}), 1);  // 1 - 0.5
  EXPECT_EQ(second(o, {1, 0.49F}, {0, 0}), 0);
  o.presence_penalty = 0;
  o.frequency_penalty = 0.25F;
  EXPECT_EQ(second(o, {1, 0.49F}, {0, 0}), 0);  // 1 - 2 * 0.25
  EXPECT_EQ(second(o, {1, 0.51F}, {0, 0}), 1);
  o.presence_penalty = 0.5F;
  EXPECT_EQ(second(o, {1, 0.01F}, {0, 0}), 1);  // 1 - 0.5 - 2 * 0.25
}

TEST(Sampler, BiasAddsAndBans) {
  SamplingOptions o = neutral(0);
  o.logit_bias = {{1, 3.0F}, {0, -kInf}};
  EXPECT_EQ(draw_one(o, {9, 1, 3.9F}), 1);
  EXPECT_EQ(draw_one(o, {9, 1, 4.1F}), 2);
}

TEST(Sampler, TheSeedDecides) {
  const auto logits = some_logits(200);
  const auto text = [&](std::uint64_t seed, std::uint32_t index) {
    SamplingOptions o;
    o.seed = seed;
    Sampler sampler(o, index, 200);
    std::vector<TokenId> tokens;
    for (int i = 0; i < 50; ++i) tokens.push_back(sampler.sample(logits, tokens));
    return tokens;
  };
  EXPECT_EQ(text(1, 0), text(1, 0));
  EXPECT_NE(text(1, 0), text(2, 0));
  EXPECT_NE(text(1, 0), text(1, 1));
}

// Fixed for ever: the same seed gives the same text on every machine and in every version.
TEST(Sampler, TheRandomStreamIsFixed) {
  EXPECT_EQ(random_bits(0, 0, 0), 6235967106033911276ULL);
  EXPECT_EQ(random_bits(42, 1, 7), 5876300023532657469ULL);
}

TEST(LogProbability, MatchesTheSoftmax) {
  const std::vector<float> logits = {1, 2, 3, kNan, -kInf};
  const double total = std::exp(1.0) + std::exp(2.0) + std::exp(3.0);
  EXPECT_NEAR(log_probability(logits, 1), 2 - std::log(total), 1e-6);
  EXPECT_EQ(log_probability(logits, 3), -kInf);
  EXPECT_EQ(log_probability(std::vector<float>{kNan, -kInf}, 1), -kInf);
  EXPECT_NEAR(log_probability(std::vector<float>{1e30F, 1e30F}, 1), std::log(0.5), 1e-6);
}

TEST(LogProbability, TopIsSortedAndStable) {
  const std::vector<float> logits = {1, 3, 2, 3, kNan};
  const auto top = top_log_probabilities(logits, 3);
  ASSERT_EQ(top.size(), 3U);
  EXPECT_EQ(top[0].token, 1);
  EXPECT_EQ(top[1].token, 3);
  EXPECT_EQ(top[2].token, 2);
  for (const TokenLogprob& t : top) EXPECT_EQ(t.logprob, log_probability(logits, t.token));
  EXPECT_EQ(top_log_probabilities(logits, 99).size(), 5U);
  EXPECT_TRUE(top_log_probabilities(logits, 0).empty());
}

TEST(SamplingOptions, RulesNameFieldAndValue) {
  const auto refusal = [](auto change) {
    SamplingOptions o;
    change(o);
    const auto result = validate(o, 100);
    return result ? std::string("accepted") : result.error().message;
  };
  using O = SamplingOptions;
  EXPECT_EQ(refusal([](O&) {}), "accepted");
  EXPECT_EQ(refusal([](O& o) { o.temperature = -0.5F; }),
            "temperature must be a number from 0 upwards, not -0.5");
  EXPECT_EQ(refusal([](O& o) { o.temperature = kNan; }),
            "temperature must be a number from 0 upwards, not nan");
  EXPECT_EQ(refusal([](O& o) { o.top_p = 1.5F; }), "top_p must be from 0 to 1, not 1.5");
  EXPECT_EQ(refusal([](O& o) { o.min_p = -1; }), "min_p must be from 0 to 1, not -1");
  EXPECT_EQ(refusal([](O& o) { o.repetition_penalty = 0; }),
            "repetition_penalty must be a number above 0, not 0");
  EXPECT_EQ(refusal([](O& o) { o.presence_penalty = 3; }),
            "presence_penalty must be from -2 to 2, not 3");
  EXPECT_EQ(refusal([](O& o) { o.frequency_penalty = kInf; }),
            "frequency_penalty must be from -2 to 2, not inf");
  EXPECT_EQ(refusal([](O& o) {
              o.logit_bias = {{100, 1.0F}};
            }),
            "logit_bias: token 100 is outside the vocabulary of 100");
  EXPECT_EQ(refusal([](O& o) {
              o.logit_bias = {{5, kInf}};
            }),
            "logit_bias: the bias of token 5 must be a number or -inf, not inf");
  EXPECT_EQ(refusal([](O& o) { o.logit_bias = {{5, -kInf}}; }), "accepted");
}

}  // namespace
}  // namespace larder
