#include "engine/eviction_points.h"

#include <gtest/gtest.h>

namespace larder {
namespace {

TEST(EvictionPoints, MultiplesAndTheEndOfThePromptWhereThereIsSomethingToDrop) {
  const EvictionPoints points{.n_keep = 100, .every = 64, .prompt_end = 150};
  EXPECT_EQ(points.next(0), 128U);
  EXPECT_EQ(points.next(127), 128U);
  EXPECT_EQ(points.next(128), 150U);
  EXPECT_EQ(points.next(150), 192U);
  EXPECT_TRUE(points.contains(150));
  EXPECT_TRUE(points.contains(192));
  EXPECT_FALSE(points.contains(64));  // within the budget
  EXPECT_FALSE(points.contains(0));
  EXPECT_EQ((EvictionPoints{.n_keep = 100, .every = 0, .prompt_end = 150}.next(150)), UINT32_MAX);
  EXPECT_EQ((EvictionPoints{.n_keep = 100, .every = 0, .prompt_end = 90}.next(0)), UINT32_MAX);
  EXPECT_EQ(EvictionPoints{}.next(7), UINT32_MAX);
}

TEST(EvictionPoints, WhatMayBeSharedAndWhatIsObserved) {
  EvictionPoints points{.n_keep = 100, .every = 64, .prompt_end = 150};
  EXPECT_EQ(points.n_shareable(), 127U);
  EXPECT_EQ(points.next_observed(0), UINT32_MAX);
  points.n_observed = 10;
  EXPECT_EQ(points.n_shareable(), 118U);
  EXPECT_EQ(points.next_observed(0), 118U);
  EXPECT_EQ(points.next_observed(120), 120U);
  EXPECT_EQ(points.next_observed(128), 140U);
  points.n_observed = UINT32_MAX;
  EXPECT_EQ(points.n_shareable(), 0U);
  EXPECT_EQ(points.next_observed(5), 5U);
  EXPECT_EQ(EvictionPoints{}.n_shareable(), UINT32_MAX);
}

TEST(EvictionPoints, APromptIsReadAgainBehindAllButItsLastToken) {
  EvictionPoints points{.n_keep = 100, .every = 0, .prompt_end = 150, .n_reread = 64};
  EXPECT_EQ(points.reread_at(), 149U);
  EXPECT_EQ(points.n_shareable(), 149U);
  EXPECT_EQ(points.next_observed(0), UINT32_MAX);
  points.prompt_end = 100;  // all stay
  EXPECT_EQ(points.reread_at(), 0U);
  points.prompt_end = 101;
  EXPECT_EQ(points.reread_at(), 100U);
  points.n_reread = 0;
  EXPECT_EQ(points.reread_at(), 0U);
}

}  // namespace
}  // namespace larder
