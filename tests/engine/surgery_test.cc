// Changes of the attention that must not change what a model computes, through the engine.
#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <random>

#include "fixture_source.h"
#include "model/surgery/pooled_source.h"
#include "model/weights.h"

namespace larder {
namespace {

using Source = std::unique_ptr<ModelSource>;

Source fixture(const std::string& name) {
  auto source = open_model(std::string(LARDER_TEST_DATA) + "/models/" + name);
  EXPECT_TRUE(source) << source.error().message;
  return std::move(*source);
}

/// Logits [n_tokens - 1, n_vocab] of a fixed prompt, with a cache in f32.
std::vector<float> logits_of(Source source) {
  EngineOptions options;
  options.n_threads = 1;
  options.n_context = 64;
  options.kv.type_k = options.kv.type_v = "f32";
  auto engine = Engine::open(std::make_unique<WithTokenizer>(std::move(source)), options);
  EXPECT_TRUE(engine) << engine.error().message;
  if (!engine) return {};
  std::vector<float> logits;
  Request request;
  for (std::int32_t i = 0; i < 48; ++i) request.prompt.push_back((i * 31 + 7) % 80);
  request.max_tokens = 1;
  request.prompt_logprobs = true;
  request.prompt_logits = [&logits](const PromptLogits& row) {
    logits.insert(logits.end(), row.logits.begin(), row.logits.end());
  };
  EXPECT_TRUE((*engine)->submit(std::move(request)));
  while (!(*engine)->idle()) EXPECT_TRUE((*engine)->step());
  return logits;
}

void expect_equal(const std::vector<float>& expected, const std::vector<float>& actual) {
  ASSERT_EQ(expected.size(), actual.size());
  ASSERT_FALSE(expected.empty());
  float largest = 0, difference = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    difference = std::max(difference, std::abs(expected[i] - actual[i]));
  }
  EXPECT_LT(difference, 1e-4F * std::max(1.0F, largest));
}

/// Copies rows of one head into another; `out` may have more heads.
void copy_head(const Matrix& from, std::size_t head, Matrix& out, std::size_t to, std::size_t d) {
  for (std::size_t i = 0; i < d; ++i) {
    std::ranges::copy(from.row(head * d + i), out.row(to * d + i).begin());
  }
}

/// Turns and scales each rotary pair of a KV head by a random factor, and the query head's by its
/// inverse; the same for a random rotation of the values.
class HeadDisguise {
 public:
  HeadDisguise(const ModelConfig& config, unsigned seed) : config_(config), random_(seed) {}

  void apply(AttentionLayer& layer, std::size_t kv_head, std::size_t q_head) {
    const std::size_t d = config_.head_dim;
    for (std::uint32_t pair = 0; pair < d / 2; ++pair) {
      const auto channels = rope_pair(config_, pair);
      const std::complex<double> factor = random_factor();
      turn(layer.k, kv_head * d + channels.first, kv_head * d + channels.second, factor);
      turn(layer.q, q_head * d + channels.first, q_head * d + channels.second,
           1.0 / std::conj(factor));
    }
    Matrix columns = transposed(layer.o);
    for (std::size_t i = 0; i + 1 < d; ++i) {  // Givens rotations of neighbours
      const auto factor = std::polar(1.0, uniform(-3, 3));
      turn(layer.v, kv_head * d + i, kv_head * d + i + 1, factor);
      turn(columns, q_head * d + i, q_head * d + i + 1, factor);
    }
    layer.o = transposed(columns);
  }

 private:
  double uniform(double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random_);
  }
  std::complex<double> random_factor() {
    if (config_.qk_norm) return uniform(-1, 1) < 0 ? -1 : 1;
    return std::polar(uniform(0.5, 2), uniform(-3, 3));
  }
  static void turn(Matrix& m, std::size_t re, std::size_t im, std::complex<double> factor) {
    for (std::size_t c = 0; c < m.cols; ++c) {
      const auto z = factor * std::complex<double>(m(re, c), m(im, c));
      m(re, c) = z.real();
      m(im, c) = z.imag();
    }
  }
  const ModelConfig& config_;
  std::mt19937 random_;
};

/// The same model as MHA: each query head gets a copy of its KV head, in disguise if wanted.
Source as_mha(Source source, bool disguised) {
  ModelConfig config = source->config();
  const std::size_t d = config.head_dim, share = config.n_heads / config.n_kv_heads;
  config.n_kv_heads = config.n_heads;
  auto out = std::make_unique<ReplacedSource>(std::move(source), config);
  HeadDisguise disguise(out->config(), 5);
  for (std::uint32_t i = 0; i < config.n_layers; ++i) {
    const auto layer = read_attention(out->base(), i);
    EXPECT_TRUE(layer);
    AttentionLayer more = *layer;
    more.k = more.v = Matrix(std::size_t{config.n_heads} * d, layer->k.cols);
    for (std::size_t head = 0; head < config.n_heads; ++head) {
      copy_head(layer->k, head / share, more.k, head, d);
      copy_head(layer->v, head / share, more.v, head, d);
      if (disguised) disguise.apply(more, head, head);
    }
    EXPECT_TRUE(put_attention(more, i, true, {}, *out));
  }
  EXPECT_TRUE(Weights::load(*out));
  return out;
}

class Pooling : public testing::TestWithParam<const char*> {};

TEST_P(Pooling, OfEqualHeadsIsExact) {
  const auto expected = logits_of(fixture(GetParam()));
  const std::uint32_t n_kv = fixture(GetParam())->config().n_kv_heads;
  auto pooled = pool_model(as_mha(fixture(GetParam()), false), {n_kv, false}, {});
  ASSERT_TRUE(pooled) << pooled.error().message;
  expect_equal(expected, logits_of(std::move(*pooled)));
}

TEST_P(Pooling, AlignedFindsHeadsInDisguise) {
  const auto expected = logits_of(fixture(GetParam()));
  const std::uint32_t n_kv = fixture(GetParam())->config().n_kv_heads;
  expect_equal(expected, logits_of(as_mha(fixture(GetParam()), true)));
  auto pooled = pool_model(as_mha(fixture(GetParam()), true), {n_kv, true}, {});
  ASSERT_TRUE(pooled) << pooled.error().message;
  EXPECT_EQ((*pooled)->config().n_kv_heads, n_kv);
  expect_equal(expected, logits_of(std::move(*pooled)));
}

INSTANTIATE_TEST_SUITE_P(Families, Pooling,
                         testing::Values("gemma2", "gemma3", "llama_gqa_llama3", "llama_gqa_yarn",
                                         "llama_mqa_linear", "mistral", "phi3_long", "phi3_short",
                                         "qwen2", "qwen3"),
                         [](const auto& family) { return std::string(family.param); });

TEST(PoolModel, RefusesNumbersThatDoNotDivide) {
  for (const std::uint32_t n : {0U, 2U, 3U, 4U}) {
    const auto pooled = pool_model(fixture("llama_mha"), {n, false}, {});
    ASSERT_FALSE(pooled) << n;
    EXPECT_EQ(pooled.error().code, Errc::invalid_argument);
    EXPECT_NE(pooled.error().message.find("kv-heads is " + std::to_string(n)), std::string::npos);
  }
}

TEST(PoolModel, AlignmentLosesLess) {
  const auto expected = logits_of(fixture("llama_mha"));
  const auto error_of = [&](bool align) {
    auto pooled = pool_model(fixture("llama_mha"), {1, align}, {});
    const auto actual = logits_of(std::move(*pooled));
    double sum = 0;
    for (std::size_t i = 0; i < actual.size(); ++i) {
      sum += std::pow(actual[i] - expected[i], 2);
    }
    return sum;
  };
  EXPECT_LT(error_of(true), 0.8 * error_of(false));
}

}  // namespace
}  // namespace larder
