// Calibration of keys: fitting, writing, and reading what may be anything.
#include "codec/key_calibration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "codec/fit_keys.h"

namespace larder {
namespace {

using testing::HasSubstr;

KeyCalibration small_calibration() {
  KeyCalibration c{2, 4, 2, true, 1234, std::vector<KeyCalibration::Layer>(3)};
  std::mt19937 rng(1);
  std::normal_distribution<float> normal;
  for (const std::size_t l : {0U, 2U}) {  // the layer between reads another's keys
    for (std::size_t i = 0; i < 8; ++i) {
      c.layers[l].mean.push_back(normal(rng));
      c.layers[l].spread.push_back(0.1F + std::abs(normal(rng)));
    }
    for (const std::uint32_t bits : {2U, 3U, 4U}) {
      for (const bool apart : {false, true}) {
        auto& table = c.layers[l].tables[table_index({bits, apart})];
        for (std::size_t i = 0; i < std::size_t{1} << bits; ++i) table.push_back(normal(rng));
        std::sort(table.begin(), table.end());
      }
    }
  }
  return c;
}

TEST(KeyCalibration, IsReadAsItWasWritten) {
  const KeyCalibration c = small_calibration();
  const auto read = parse_key_calibration(key_calibration_text(c), "file");
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->n_heads, 2U);
  EXPECT_EQ(read->head_dim, 4U);
  EXPECT_EQ(read->n_rot, 2U);
  EXPECT_TRUE(read->adjacent);
  EXPECT_EQ(read->n_tokens, 1234U);
  ASSERT_EQ(read->layers.size(), 3U);
  for (std::size_t l = 0; l < 3; ++l) {
    EXPECT_EQ(read->layers[l].mean, c.layers[l].mean);
    EXPECT_EQ(read->layers[l].spread, c.layers[l].spread);
    EXPECT_EQ(read->layers[l].tables, c.layers[l].tables);
  }
}

std::string changed(const std::string& from, const std::string& to) {
  std::string text = key_calibration_text(small_calibration());
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}
std::string refusal(const std::string& text) {
  const auto read = parse_key_calibration(text, "file");
  EXPECT_FALSE(read);
  return read ? "" : read.error().message;
}

TEST(KeyCalibration, WhatIsWrongIsNamedWithItsLine) {
  EXPECT_THAT(refusal(""), HasSubstr("file, line 1"));
  EXPECT_THAT(refusal("GGUF\x01\xff"), HasSubstr("begins with 'GGUF?"));
  EXPECT_THAT(refusal(changed("calibration 1", "calibration 2")), HasSubstr("'2' is no number"));
  EXPECT_THAT(refusal(changed("layers 3", "layers 4294967296")), HasSubstr("from 1 to 1024"));
  EXPECT_THAT(refusal(changed("layers 3", "layers 2")), HasSubstr("'2' is no number from 1 to 1"));
  EXPECT_THAT(refusal(changed("heads 2", "heads 0")), HasSubstr("line 3"));
  EXPECT_THAT(refusal(changed("channels 4", "channels 4 4")), HasSubstr("'4' is too much"));
  EXPECT_THAT(refusal(changed("channels 4", "channels 5")), HasSubstr("does not have 5 numbers"));
  EXPECT_THAT(refusal(changed("rope adjacent", "rope sideways")), HasSubstr("halves or adjacent"));
  EXPECT_THAT(refusal(changed("adjacent 2", "adjacent 3")), HasSubstr("in pairs"));
  EXPECT_THAT(refusal(changed("adjacent 2", "adjacent 6")), HasSubstr("from 2 to 4"));
  EXPECT_THAT(refusal(changed("mean 1", "mean 2")), HasSubstr("'2' is no number from 1 to 1"));
  EXPECT_THAT(refusal(changed("mean 0", "mean 0 nan")), HasSubstr("'nan' is no number"));
  EXPECT_THAT(refusal(changed("spread 0", "spread 0 0")), HasSubstr("'0' is no number"));
  EXPECT_THAT(refusal(changed("spread 0", "spread 0 inf")), HasSubstr("'inf' is no number"));
  EXPECT_THAT(refusal(changed("kvq2 ", "kvq2 9999 ")), HasSubstr("does not have 4 numbers"));
  EXPECT_THAT(refusal(changed("layer 2", "layer 0")), HasSubstr("'0' is no number from 1 to 2"));
  const std::string whole = key_calibration_text(small_calibration());
  EXPECT_THAT(refusal(whole + "\n"), HasSubstr("begins with ''"));
  // Cut anywhere, it is refused or has fewer layers.
  for (std::size_t n = 0; n < whole.size(); ++n) {
    const auto read = parse_key_calibration(std::string_view(whole).substr(0, n), "file");
    if (read) {
      EXPECT_TRUE(read->layers[2].mean.empty());
    }
  }
}

TEST(KeyCalibration, TablesAscend) {
  std::string text = key_calibration_text(small_calibration());
  const std::size_t at = text.find("kvq2 "), end = text.find('\n', at);
  text.replace(at, end - at, "kvq2 1 2 3 -4");
  EXPECT_THAT(refusal(text), HasSubstr("is not in order"));
}

// Rows of two heads of 16 channels, each with a mean and a spread of its own.
std::vector<float> normal_rows(std::size_t n, std::mt19937& rng) {
  std::normal_distribution<float> normal;
  std::vector<float> rows;
  for (std::size_t r = 0; r < n; ++r) {
    for (int c = 0; c < 32; ++c) {
      const auto at = static_cast<float>(c);
      rows.push_back(at - 10 + (1 + at / 8) * normal(rng));
    }
  }
  return rows;
}

TEST(FitKeys, FindsMeansSpreadsAndTheTablesOfNormalKeys) {
  std::mt19937 rng(7);
  KeyFit fit(2, 16, 2);
  for (int step = 0; step < 20; ++step) fit.add(normal_rows(300, rng));
  const KeyCalibration::Layer layer = fit.fit();
  ASSERT_EQ(layer.mean.size(), 32U);
  for (std::size_t c = 0; c < 32; ++c) {
    const auto at = static_cast<float>(c);
    EXPECT_NEAR(layer.mean[c], at - 10, 0.05 * (1 + at / 8));
    EXPECT_NEAR(layer.spread[c], 1 + at / 8, 0.04 * (1 + at / 8));
  }
  // Lloyd-Max of N(0, 1).
  const std::vector<float> two = {-1.5104F, -0.4528F, 0.4528F, 1.5104F};
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(layer.tables[table_index({2, false})][i], two[i], 0.03);
  }
  EXPECT_NEAR(layer.tables[table_index({4, false})].back(), 2.7326, 0.12);
  EXPECT_NEAR(layer.tables[table_index({3, false})][4], 0.2451, 0.03);
  for (const auto& table : layer.tables) EXPECT_TRUE(std::is_sorted(table.begin(), table.end()));
  // Without the elements that lose most, a table reaches less far.
  EXPECT_LT(layer.tables[table_index({2, true})].back(), 1.5);
}

TEST(FitKeys, ConstantAndFewKeysAreNoTrouble) {
  KeyFit constant(1, 16, 1);
  constant.add(std::vector<float>(16 * 40, 3.0F));
  const KeyCalibration::Layer same = constant.fit();
  EXPECT_EQ(same.mean[5], 3.0F);
  EXPECT_GT(same.spread[5], 0.0F);
  KeyFit single(1, 16, 5);
  single.add(std::vector<float>(16, -1.0F));
  KeyCalibration c{1, 16, 16, false, 1, {single.fit()}};
  EXPECT_TRUE(parse_key_calibration(key_calibration_text(c), "file"));
}

TEST(FitKeys, ASampleHasABound) {
  EXPECT_EQ(KeyFit::stride_of(100, 2, 64), 1U);
  EXPECT_EQ(KeyFit::stride_of(4096, 2, 64), 2U);
  EXPECT_EQ(KeyFit::stride_of(4097, 2, 64), 3U);
  EXPECT_EQ(KeyFit::stride_of(0, 2, 64), 1U);
}

}  // namespace
}  // namespace larder
