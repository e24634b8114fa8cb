#include "model/rope_table.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <sstream>
#include <string>

namespace larder {
namespace {

struct Expected {
  std::uint32_t n_context = 0;
  float amplitude = 0;
  std::vector<float> inv_freq;
};

/// Made by tests/fixtures/make_rope_fixtures.py, with the configurations below.
std::map<std::string, Expected> read_fixture() {
  std::map<std::string, Expected> cases;
  std::ifstream file(LARDER_TEST_DATA "/rope/rope.txt");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name;
    Expected expected;
    words >> name >> expected.n_context >> expected.amplitude;
    for (float f; words >> f;) expected.inv_freq.push_back(f);
    cases[name] = expected;
  }
  return cases;
}

ModelConfig config_with(RopeScaling scaling, float base, float factor = 1.0F) {
  ModelConfig config;
  config.head_dim = 64;
  config.rope.n_rot = 64;
  config.rope.base = base;
  config.rope.scaling = scaling;
  config.rope.factor = factor;
  return config;
}

std::map<std::string, ModelConfig> configs() {
  std::map<std::string, ModelConfig> all;
  all["plain"] = config_with(RopeScaling::none, 10000.0F);
  all["linear"] = config_with(RopeScaling::linear, 10000.0F, 2.5F);
  all["llama3"] = config_with(RopeScaling::llama3, 500000.0F, 8.0F);
  all["llama3"].rope.original_context = 1024;
  all["yarn"] = config_with(RopeScaling::yarn, 1000000.0F, 8.0F);
  all["yarn"].rope.original_context = 512;
  all["yarn_factor"] = all["yarn"];
  all["yarn_factor"].rope.base = 10000.0F;
  all["yarn_factor"].rope.attention_factor = 0.75F;
  all["yarn_factor"].rope.beta_fast = 16.0F;
  all["yarn_factor"].rope.beta_slow = 2.0F;
  all["yarn_mscale"] = all["yarn"];
  all["yarn_mscale"].rope.base = 10000.0F;
  const float growth = 0.1F * std::log(8.0F);
  all["yarn_mscale"].rope.attention_factor = (growth * 0.707F + 1) / (growth * 1.2F + 1);
  auto long_rope = config_with(RopeScaling::longrope, 10000.0F, 4.0F);
  long_rope.rope.original_context = 1024;
  for (int i = 0; i < 32; ++i) {
    long_rope.rope.short_factors.push_back(1.0F + 0.03F * static_cast<float>(i));
    long_rope.rope.long_factors.push_back(1.2F + 0.7F * static_cast<float>(i));
  }
  all["longrope_short"] = long_rope;
  all["longrope_long"] = long_rope;
  return all;
}

TEST(RopeTable, AgreesWithTransformers) {
  const auto expected = read_fixture();
  const auto all = configs();
  ASSERT_EQ(expected.size(), all.size());
  for (const auto& [name, config] : all) {
    const auto& want = expected.at(name);
    const RopeTable table = make_rope_table(config, false, want.n_context);
    ASSERT_EQ(table.inv_freq.size(), want.inv_freq.size()) << name;
    EXPECT_NEAR(table.amplitude, want.amplitude, 1e-6F) << name;
    for (std::size_t i = 0; i < want.inv_freq.size(); ++i) {
      EXPECT_NEAR(table.inv_freq[i], want.inv_freq[i], want.inv_freq[i] * 2e-6F)
          << name << " " << i;
    }
  }
}

TEST(RopeTable, Llama3DivisorsAreTheSameScaling) {
  ModelConfig config = configs().at("llama3");
  const RopeTable scaled = make_rope_table(config, false, 16);
  config.rope.frequency_divisors = llama3_divisors(config.rope);
  config.rope.scaling = RopeScaling::none;
  const RopeTable divided = make_rope_table(config, false, 16);
  EXPECT_EQ(scaled.inv_freq, divided.inv_freq);
}

TEST(RopeTable, LocalLayersHaveTheirOwnBaseAndNoScaling) {
  ModelConfig config = config_with(RopeScaling::linear, 1000000.0F, 8.0F);
  config.rope.local_base = 10000.0F;
  EXPECT_EQ(make_rope_table(config, true, 16).inv_freq,
            make_rope_table(configs().at("plain"), false, 16).inv_freq);
  EXPECT_FLOAT_EQ(make_rope_table(config, false, 16).inv_freq[0], 1.0F / 8.0F);
  config.rope.local_base = 0;
  EXPECT_EQ(make_rope_table(config, true, 16).inv_freq,
            make_rope_table(config, false, 16).inv_freq);
}

TEST(RopeTable, RotatesAsManyChannelsAsTheConfigSays) {
  ModelConfig config = config_with(RopeScaling::none, 10000.0F);
  config.rope.n_rot = 48;
  config.rope.style = RopeStyle::adjacent;
  const RopeTable table = make_rope_table(config, false, 16);
  EXPECT_EQ(table.inv_freq.size(), 24U);
  EXPECT_TRUE(table.adjacent);
  EXPECT_NEAR(table.inv_freq[1], std::pow(10000.0, -2.0 / 48), 1e-6);
}

}  // namespace
}  // namespace larder
