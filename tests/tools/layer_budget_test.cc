#include "layer_budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace larder {
namespace {

std::vector<LayerSide> random_sides(std::mt19937& random, std::size_t n_layers) {
  std::vector<LayerSide> sides;
  for (std::uint32_t i = 0; i < 2 * n_layers; ++i) {
    LayerSide side{i / 2, i % 2 == 0, {{"bf16", 0, 0}}};
    for (const char* format : {"int8", "int4", "int2"}) {
      side.choices.push_back({format, static_cast<double>(random() % 1000) / 1000,
                              side.choices.back().saved_bytes + random() % 40});
    }
    sides.push_back(std::move(side));
  }
  return sides;
}

double kl_of(const std::vector<LayerSide>& sides, const std::vector<std::size_t>& chosen) {
  double kl = 0;
  for (std::size_t i = 0; i < sides.size(); ++i) kl += sides[i].choices[chosen[i]].kl;
  return kl;
}

std::uint64_t saved_by(const std::vector<LayerSide>& sides,
                       const std::vector<std::size_t>& chosen) {
  std::uint64_t saved = 0;
  for (std::size_t i = 0; i < sides.size(); ++i) saved += sides[i].choices[chosen[i]].saved_bytes;
  return saved;
}

/// All combinations.
double least_kl(const std::vector<LayerSide>& sides, std::uint64_t n_bytes) {
  double least = INFINITY;
  for (std::size_t code = 0; code < std::size_t{1} << (2 * sides.size()); ++code) {
    std::vector<std::size_t> chosen;
    for (std::size_t i = 0; i < sides.size(); ++i) chosen.push_back(code >> (2 * i) & 3);
    if (saved_by(sides, chosen) >= n_bytes) least = std::min(least, kl_of(sides, chosen));
  }
  return least;
}

TEST(ChooseFormats, IsTheBestOfAllCombinations) {
  std::mt19937 random(1);
  for (int round = 0; round < 30; ++round) {
    const auto sides = random_sides(random, 3);
    std::uint64_t most = 0;
    for (const auto& side : sides) most += side.choices.back().saved_bytes;
    const std::uint64_t n_bytes = random() % (most + 1);
    const auto chosen = choose_formats(sides, n_bytes);
    ASSERT_TRUE(chosen) << chosen.error().message;
    EXPECT_GE(saved_by(sides, *chosen), n_bytes);
    EXPECT_NEAR(kl_of(sides, *chosen), least_kl(sides, n_bytes), 1e-12);
    EXPECT_FALSE(choose_formats(sides, most + 1));
  }
}

TEST(ChooseFormats, NothingToSaveChangesNothing) {
  std::mt19937 random(2);
  const auto sides = random_sides(random, 2);
  EXPECT_THAT(*choose_formats(sides, 0), testing::Each(0U));
}

TEST(ChooseFormats, LargeBudgetsKeepTheirPromise) {
  std::mt19937 random(3);
  auto sides = random_sides(random, 4);
  for (auto& side : sides) {
    for (auto& choice : side.choices) choice.saved_bytes *= 100003;
  }
  const auto chosen = choose_formats(sides, 8000000);
  ASSERT_TRUE(chosen) << chosen.error().message;
  EXPECT_GE(saved_by(sides, *chosen), 8000000U);
}

TEST(KvLayersText, JoinsLayersThatAreAlike) {
  std::vector<LayerSide> sides;
  for (const std::uint32_t layer : {0U, 1U, 2U, 4U}) {
    for (const bool is_key : {true, false}) {
      sides.push_back({layer, is_key, {{"bf16", 0, 0}, {"int8", 0, 1}}});
    }
  }
  EXPECT_EQ(kv_layers_text(sides, {0, 1, 1, 1, 1, 1, 1, 1}), "0:bf16/int8,1-2:int8,4:int8");
}

}  // namespace
}  // namespace larder
