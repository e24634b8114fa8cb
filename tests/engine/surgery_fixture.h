// Fixtures whose attention is changed, and what they compute.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "fixture_source.h"
#include "model/surgery/pooled_source.h"
#include "model/weights.h"

namespace larder {

using Source = std::unique_ptr<ModelSource>;

inline Source fixture(const std::string& name) {
  auto source = open_model(std::string(LARDER_TEST_DATA) + "/models/" + name);
  EXPECT_TRUE(source) << source.error().message;
  return std::move(*source);
}

/// Logits [n_tokens - 1, n_vocab] of a fixed prompt, with a cache in f32.
inline std::vector<float> logits_of(Source source) {
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

inline void expect_equal(const std::vector<float>& expected, const std::vector<float>& actual) {
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
inline void copy_head(const Matrix& from, std::size_t head, Matrix& out, std::size_t to,
                      std::size_t d) {
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
inline Source as_mha(Source source, bool disguised) {
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

}  // namespace larder
