#include "server/auth.h"

#include <gtest/gtest.h>

namespace larder {
namespace {

TEST(ApiKeysTest, NoKeysLetEverybodyPass) {
  EXPECT_TRUE(ApiKeys({}).allow(""));
  EXPECT_TRUE(ApiKeys({}).allow("Bearer anything"));
}

TEST(ApiKeysTest, OnlyWholeKeysPass) {
  const ApiKeys keys({"alpha", "beta-2"});
  EXPECT_TRUE(keys.allow("Bearer alpha"));
  EXPECT_TRUE(keys.allow("bearer beta-2"));
  for (const char* wrong : {"", "alpha", "Bearer", "Bearer ", "Bearer alph", "Bearer alphaa",
                            "Bearer alphaalpha", "Bearer  alpha", "Basic alpha", "Bearer beta"}) {
    EXPECT_FALSE(keys.allow(wrong)) << wrong;
  }
}

}  // namespace
}  // namespace larder
