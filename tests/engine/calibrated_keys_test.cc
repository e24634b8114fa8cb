// Keys before rope in an engine: which calibrations are taken, what they are good for, and which
// combinations are refused.
#include "engine/calibrated_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "codec/key_calibration.h"
#include "engine/fingerprint.h"
#include "engine/schedule_models.h"

namespace larder {
namespace {

using schedule::kTurned;
using schedule::kTurnedHalf;
using testing::HasSubstr;

std::string refusal(EngineOptions options) {
  const auto engine =
      options.model_path.ends_with(".gguf") ? Engine::open(options) : open_fixture(options);
  EXPECT_FALSE(engine);
  return engine ? "" : engine.error().message;
}

KeyCalibration read_calibration(const EngineOptions& options) {
  std::ifstream file(options.kv.calibration);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  auto keys = parse_key_calibration(text, options.kv.calibration);
  EXPECT_TRUE(keys);
  return *keys;
}

TEST(CalibratedKeys, WhatDoesNotFitIsRefusedWithTheReason) {
  const EngineOptions good = schedule::base_options(kTurned);
  EngineOptions o = good;
  o.kv.calibration = "";
  EXPECT_THAT(refusal(o), HasSubstr("cache-type-k kvq4o of layer 0 needs a kv-calibration"));
  o.kv.calibration = "/nowhere/keys";
  EXPECT_THAT(refusal(o), HasSubstr("kv-calibration: cannot read '/nowhere/keys'"));
  o.kv.calibration = good.model_path;
  EXPECT_THAT(refusal(o), HasSubstr("line 1: begins with"));
  o = good;
  o.kv.type_v = "kvq4";
  EXPECT_THAT(refusal(o), HasSubstr("name another one for values"));
  o = good;
  o.kv.calibration = schedule::base_options(kTurnedHalf).kv.calibration;
  EXPECT_THAT(refusal(o), HasSubstr("is of another model: 2 layers x 1 KV heads x 16 channels, 8 "
                                    "of them turned in halves, this has 2 layers x 2"));
  o = good;
  o.kv.policy = "streaming-llm:sinks=16,every=32";
  o.kv.keep = "48";
  EXPECT_THAT(refusal(o), HasSubstr("cache-type-k kvq4o of layer 0: keys are stored as they were"));
  o = schedule::base_options(schedule::kLatentSealed);
  o.kv.type_k = "kvq4";
  o.kv.calibration = good.kv.calibration;
  EXPECT_THAT(refusal(o), HasSubstr("latent attention has no keys of heads before rope"));
}

TEST(CalibratedKeys, ALayerThatTheFileIsSilentOfIsNamed) {
  const ScratchDir dir;
  EngineOptions o = schedule::base_options(kTurned);
  KeyCalibration keys = read_calibration(o);
  keys.layers[1] = {};
  dir.write("keys", key_calibration_text(keys));
  o.kv.calibration = dir.path("keys");
  EXPECT_THAT(refusal(o), HasSubstr("says nothing of layer 1"));
  o.kv.layers = "1:bf16";
  EXPECT_TRUE(Engine::open(o));
}

TEST(CalibratedKeys, BlocksMustKeepTheirPlaces) {
  EngineOptions o = schedule::base_options(kTurned);
  o.kv.keep = "0.5";
  o.kv.policy = "knorm";
  EXPECT_THAT(refusal(o), HasSubstr("a block does not know its positions"));
  o.kv.policy = "quest:full-layers=0";
  EXPECT_THAT(refusal(o), HasSubstr("of blocks that were chosen the position is not known"));
}

/// Layers with a window may have a rope of their own.
TEST(CalibratedKeys, EachLayerHasItsRope) {
  const ScratchDir dir;
  ModelConfig config;
  config.n_layers = 2;
  config.n_heads = config.n_kv_heads = 1;
  config.head_dim = config.rope.n_rot = 16;
  config.rope.local_base = 500;
  config.rope.scaling = RopeScaling::yarn;
  config.rope.factor = 4;
  config.rope.original_context = 64;
  config.window = 32;
  config.windowed = {0, 1};
  const KeyCalibration::Layer layer{
      std::vector<float>(16, 2.0F),
      std::vector<float>(16, 0.5F),
      {std::vector<float>(4), std::vector<float>(4), std::vector<float>(8), std::vector<float>(8),
       std::vector<float>(16), std::vector<float>(16)}};
  dir.write("keys", key_calibration_text({1, 16, 16, false, 9, {layer, layer}}));
  EngineOptions options;
  options.n_context = 256;
  options.kv.calibration = dir.path("keys");
  const KvFormats formats{&kv_codec(KvFormat::kvq4), &kv_codec(KvFormat::bf16)};
  const auto keys = calibrated_keys(config, options, {formats, formats});
  ASSERT_TRUE(keys) << keys.error().message;
  std::vector<KvLayout> layouts(2, make_kv_layout(*formats.k, *formats.v, BlockShape{32, 16}));
  set_keys(config, **keys, layouts);
  EXPECT_EQ(layouts[0].angles, &(*keys)->angles[0]);
  EXPECT_EQ(layouts[1].angles, &(*keys)->angles[1]);
  EXPECT_EQ(layouts[1].key_table, &(*keys)->tables[1]);
  const float amplitude = 0.1F * std::log(4.0F) + 1;  // YaRN's, which local layers do without
  EXPECT_NEAR((*keys)->tables[0].mean[3], 2 * amplitude, 1e-5);
  EXPECT_NEAR((*keys)->tables[0].spread[3], 0.5F * amplitude, 1e-5);
  EXPECT_EQ((*keys)->tables[1].mean[3], 2.0F);
}

TEST(CalibratedKeys, AnotherFileMakesOtherBlocks) {
  const ScratchDir dir;
  EngineOptions o = schedule::base_options(kTurned);
  KeyCalibration keys = read_calibration(o);
  const auto source = open_model(o.model_path);
  ASSERT_TRUE(source);
  const auto digest = [&] {
    const KvFormats formats{&kv_codec(KvFormat::kvq4), &kv_codec(KvFormat::bf16)};
    const auto loaded = calibrated_keys((*source)->config(), o, {formats, formats});
    EXPECT_TRUE(loaded);
    return (*loaded)->digest;
  };
  const std::string first = digest();
  EXPECT_EQ(first.size(), 32U);
  EXPECT_EQ(digest(), first);
  keys.layers[1].mean[0] += 0.5F;
  dir.write("keys", key_calibration_text(keys));
  o.kv.calibration = dir.path("keys");
  EXPECT_NE(digest(), first);
  EXPECT_NE(cache_fingerprint(**source, "x" + digest()), cache_fingerprint(**source, "x" + first));
}

std::vector<float> prompt_logprobs(const EngineOptions& options) {
  auto engine = schedule::open_engine(options);
  Request request;
  for (int i = 0; i < 150; ++i) request.prompt.push_back(3 + i * 37 % 70);
  request.max_tokens = 1;
  request.prompt_logprobs = true;
  EXPECT_TRUE(engine->submit(std::move(request)));
  std::vector<float> all;
  while (!engine->idle()) {
    const auto report = engine->step();
    for (const TokenEvent& event : report->events) {
      for (const TokenLogprob& p : event.prompt) all.push_back(p.logprob);
    }
  }
  return all;
}

/// Mean square of what a format changes in log-probabilities.
double change(EngineOptions options, const std::string& type_k) {
  options.kv.type_v = "bf16";
  options.kv.type_k = "bf16";
  options.kv.raw_blocks = 0;
  const std::vector<float> expected = prompt_logprobs(options);
  options.kv.type_k = type_k;
  const std::vector<float> got = prompt_logprobs(options);
  EXPECT_EQ(got.size(), expected.size());
  double sum = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    sum += double{got[i] - expected[i]} * (got[i] - expected[i]);
  }
  return sum / static_cast<double>(got.size());
}

/// Keys at wrong positions, or channels in the wrong order, would show here: partial and whole
/// rope, halves and adjacent pairs, with and without an amplitude.
TEST(CalibratedKeys, MoreBitsComeCloserToBf16) {
  for (const schedule::Model& model : {kTurned, kTurnedHalf}) {
    SCOPED_TRACE(testing::Message() << model);
    const EngineOptions o = schedule::base_options(model);
    const double four = change(o, "kvq4"), two = change(o, "kvq2"), apart = change(o, "kvq4o");
    EXPECT_GT(four, 0);
    EXPECT_LT(four, two / 2);
    EXPECT_LT(apart, 1.2 * four);
    EXPECT_LT(apart, 2 * change(o, "int4"));
  }
}

TEST(CalibratedKeys, WhatIsUsedIsSaid) {
  const EngineOptions o = schedule::base_options(kTurned);
  const std::string text = schedule::open_engine(o)->description();
  EXPECT_THAT(text, HasSubstr("K kvq4o, V rot4, first 1 block raw"));
  EXPECT_THAT(text, HasSubstr("keys by " + o.kv.calibration));
}

}  // namespace
}  // namespace larder
