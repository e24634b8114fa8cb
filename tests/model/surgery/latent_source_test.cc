#include "model/surgery/latent_source.h"

#include <gmock/gmock.h>

#include <cmath>
#include <complex>
#include <vector>

#include "model/rope_table.h"

namespace larder {
namespace {

using testing::ElementsAre;

TEST(ChooseRope, TakesFirstComponentsFirst) {
  const std::vector<std::vector<double>> any(4, {1, 0.5, 0.1});
  EXPECT_THAT(choose_rope(RopeChoice::high, 2, any), ElementsAre(1, 1, 0, 0));
  EXPECT_THAT(choose_rope(RopeChoice::high, 5, any), ElementsAre(2, 1, 1, 1));
  EXPECT_THAT(choose_rope(RopeChoice::uniform, 2, any), ElementsAre(1, 0, 1, 0));
  EXPECT_THAT(choose_rope(RopeChoice::uniform, 4, any), ElementsAre(1, 1, 1, 1));
  EXPECT_THAT(choose_rope(RopeChoice::uniform, 12, any), ElementsAre(3, 3, 3, 3));
}

TEST(ChooseRope, NormAndLossTakeTheLargestComponents) {
  const std::vector<std::vector<double>> importance = {{9, 7, 1}, {2, 1, 1}, {8, 0, 0}};
  for (const RopeChoice choice : {RopeChoice::norm, RopeChoice::loss}) {
    EXPECT_THAT(choose_rope(choice, 1, importance), ElementsAre(1, 0, 0));
    EXPECT_THAT(choose_rope(choice, 4, importance), ElementsAre(2, 1, 1));
    EXPECT_THAT(choose_rope(choice, 9, importance), ElementsAre(3, 3, 3));
  }
}

TEST(MeanTurns, AreNearestToTheRotationsTheyStandFor) {
  const std::vector<float> frequencies = {1.0F, 0.1F, 1e-3F, 0.0F};
  const auto turns = mean_turns(frequencies, 100);
  ASSERT_EQ(turns.size(), 4U);
  const auto error_of = [](double frequency, std::complex<double> constant) {
    double sum = 0;
    for (int n = 0; n < 100; ++n) {
      sum += std::norm(std::polar(1.0, n * frequency) - constant) / (n + 1);
    }
    return sum;
  };
  for (std::size_t i = 0; i < turns.size(); ++i) {
    for (const std::complex<double> step :
         {std::complex<double>(0.01, 0), std::complex<double>(0, 0.01)}) {
      EXPECT_LT(error_of(frequencies[i], turns[i]), error_of(frequencies[i], turns[i] + step));
      EXPECT_LT(error_of(frequencies[i], turns[i]), error_of(frequencies[i], turns[i] - step));
    }
  }
  EXPECT_LT(std::abs(turns[0]), 0.4);
  EXPECT_GT(std::abs(turns[2]), 0.999);
  EXPECT_EQ(turns[3], 1.0);
  const auto two = mean_turns(std::vector<float>{0.5F}, 2)[0];
  EXPECT_NEAR(std::abs(two - (1.0 + 0.5 * std::polar(1.0, 0.5)) / 1.5), 0, 1e-12);
  EXPECT_EQ(mean_turns(std::vector<float>{0.5F}, 0)[0], 1.0);
}

/// The table that a model with this rope gets.
std::vector<float> table_of(const RopeConfig& rope) {
  ModelConfig config;
  config.head_dim = rope.n_rot;
  config.rope = rope;
  return make_rope_table(config, false, 64).inv_freq;
}

void expect_table(const std::vector<float>& frequencies, bool by_base) {
  const RopeConfig rope = rope_with(frequencies, 10000);
  EXPECT_EQ(rope.frequency_divisors.empty(), by_base);
  EXPECT_EQ(rope.style, RopeStyle::adjacent);
  const auto table = table_of(rope);
  ASSERT_EQ(table.size(), frequencies.size());
  for (std::size_t i = 0; i < table.size(); ++i) {
    EXPECT_NEAR(table[i] / frequencies[i], 1, 2e-5) << i;
  }
}

TEST(RopeWith, FindsABaseWhereThereIsOne) {
  std::vector<float> all;
  for (int i = 0; i < 16; ++i) all.push_back(std::pow(10000.0F, -static_cast<float>(i) / 16));
  expect_table(all, true);
  expect_table({all[0], all[1], all[2], all[3]}, true);
  expect_table({all[0], all[4], all[8], all[12]}, true);
  expect_table({all[0]}, true);
  expect_table({all[1], all[2]}, false);
  expect_table({all[0], all[3], all[4]}, false);
  expect_table({all[0], all[0], all[1], all[1]}, false);
}

}  // namespace
}  // namespace larder
