// A calibration of a model's keys from random tokens.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "codec/fit_keys.h"
#include "larder/engine.h"
#include "model/config.h"

namespace larder {

inline KeyCalibration fitted_keys(Engine& engine, std::uint32_t n_tokens = 150) {
  const ModelConfig& config = engine.config();
  std::vector<KeyFit> fits(config.n_layers, KeyFit(config.n_kv_heads, config.head_dim, 1));
  engine.observe_keys(
      [&](std::uint32_t layer, std::span<const float> rows) { fits[layer].add(rows); });
  std::mt19937 random(77);
  Request request;
  for (std::uint32_t i = 0; i < n_tokens; ++i) {
    request.prompt.push_back(static_cast<std::int32_t>(3 + random() % (config.n_vocab - 3)));
  }
  request.max_tokens = 1;
  EXPECT_TRUE(engine.submit(std::move(request)));
  while (!engine.idle()) EXPECT_TRUE(engine.step());
  engine.observe_keys({});
  KeyCalibration keys{config.n_kv_heads, config.head_dim,
                      config.rope.n_rot, config.rope.style == RopeStyle::adjacent,
                      n_tokens,          {}};
  for (std::uint32_t layer = 0; layer < config.n_layers; ++layer) {
    const bool owns = config.owns_kv(layer);
    keys.layers.push_back(owns ? fits[layer].fit() : KeyCalibration::Layer{});
  }
  return keys;
}

}  // namespace larder
