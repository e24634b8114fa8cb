#include "policy/methods.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

namespace larder {
namespace {

std::string refusal(std::string_view text) {
  const auto policy = parse_policy(text);
  return policy ? "accepted" : policy.error().message;
}

std::string keep_refusal(std::string_view text) {
  const auto keep = parse_keep(text);
  return keep ? "accepted" : keep.error().message;
}

TEST(Methods, EachHasItsNameWordsAndParameters) {
  std::set<std::string_view> names;
  for (const Method& method : methods()) {
    EXPECT_TRUE(names.insert(method.name).second) << method.name;
    EXPECT_GT(method.description.size(), 20U) << method.name;
    EXPECT_GT(method.source.size(), 5U) << method.name;
    EXPECT_FALSE(method.parameters.empty()) << method.name;
    EXPECT_EQ(find_method(method.name), &method);
    EXPECT_EQ(refusal(method.name), "accepted");
    for (const std::string_view name : method.parameters) {
      const std::uint32_t value = name == "recent" ? 400 : 17;  // no window is longer
      const std::string text = fmt::format("{}:{}={}", method.name, name, value);
      const auto policy = parse_policy(text);
      ASSERT_TRUE(policy) << text;
      EXPECT_EQ(parameter(*policy, name), value) << text;
    }
  }
  EXPECT_EQ(find_method("none"), nullptr);
}

TEST(Methods, TextsBecomePolicies) {
  const auto policy = parse_policy("knorm:recent=64,every=128");
  ASSERT_TRUE(policy);
  EXPECT_EQ(policy->score, Score::key_norm);
  EXPECT_EQ(policy->sinks, 4U);
  EXPECT_EQ(policy->recent, 64U);
  EXPECT_EQ(policy->every, 128U);
  EXPECT_TRUE(policy->at_prompt_end);
}

TEST(Methods, RefusalsNameTheTextAndWhatThereIs) {
  EXPECT_NE(refusal("h3o").find("kv-policy 'h3o' is not known; there are: streaming-llm, "),
            std::string::npos);
  EXPECT_EQ(refusal("knorm:seed=1"),
            "kv-policy: knorm has no parameter 'seed'; it has: sinks, recent, every");
  EXPECT_EQ(refusal("knorm:sinks=129"), "kv-policy: knorm: sinks must be from 0 to 128, not '129'");
  EXPECT_EQ(refusal("snapkv:kernel=4"), "kv-policy 'snapkv:kernel=4': kernel must be odd, not 4");
  for (const char* text :
       {"", ":", "knorm:", "knorm:sinks", "knorm:sinks=", "knorm:sinks=-1", "knorm:sinks=4,",
        "knorm:sinks=4x", "knorm:every=99999999999999", "knorm,sinks=4", "Knorm"}) {
    EXPECT_NE(refusal(text), "accepted") << text;
  }
  EXPECT_EQ(refusal("streaming-llm:every=0"),
            "kv-policy 'streaming-llm:every=0' never drops a row: every must not be 0");
  EXPECT_EQ(refusal("window:every=0"), "accepted");  // at the end of the prompt
}

TEST(Methods, ValuesThatMakeNoSenseTogetherAreRefused) {
  EXPECT_EQ(refusal("kvzip:chunk=0"),
            "kv-policy 'kvzip:chunk=0': chunk is 0: the largest weight counts of queries that read "
            "the prompt again, so counting: largest and a chunk above 0 go together");
  EXPECT_EQ(refusal("kvmerger:recent-percent=90,heavy-percent=90"),
            "kv-policy 'kvmerger:recent-percent=90,heavy-percent=90': recent-percent 90 and "
            "heavy-percent 90 are more than the budget, of which they are parts");
  EXPECT_NE(refusal("kvmerger:recent-percent=77"), "accepted");  // 24 are heavy
  EXPECT_EQ(refusal("kvmerger:recent-percent=76"), "accepted");
  EXPECT_NE(refusal("kvmerger:recent-percent=100,heavy-percent=100"), "accepted");
  EXPECT_EQ(refusal("h2o:recent-percent=100"), "accepted");
  EXPECT_EQ(refusal("pyramidinfer:window=0"),
            "kv-policy 'pyramidinfer:window=0': rise-percent needs a window");
}

TEST(Methods, TheRowsOfAPooledWindowStay) {
  EXPECT_EQ(refusal("snapkv:recent=0"),
            "kv-policy 'snapkv:recent=0': recent is 0, but the rows of the 32 queries of the "
            "window stay in any case where scores are pooled: recent must be window or more");
  for (const char* text : {"snapkv:window=33", "pyramidkv:recent=31", "ada-snapkv:window=64"}) {
    EXPECT_NE(refusal(text), "accepted") << text;
  }
  for (const char* text : {"snapkv:window=16", "snapkv:window=64,recent=64",
                           "snapkv:recent=0,kernel=1", "snapkv:window=0,recent=0"}) {
    EXPECT_EQ(refusal(text), "accepted") << text;
  }
}

TEST(Methods, AParameterIsNamedOnce) {
  EXPECT_EQ(refusal("knorm:sinks=4,recent=8,sinks=8"), "kv-policy: knorm: 'sinks' is named twice");
  EXPECT_EQ(refusal("knorm:sinks=4,sinks=4"), "kv-policy: knorm: 'sinks' is named twice");
  std::string heads;
  EXPECT_FALSE(parse_policy("knorm:heads=a,heads=b", &heads));
}

TEST(Methods, NoneIsNoPolicy) {
  for (const char* text : {"", "none", "full"}) EXPECT_TRUE(names_no_policy(text)) << text;
  for (const char* text : {"None", "none:", "knorm", "fullest"}) {
    EXPECT_FALSE(names_no_policy(text)) << text;
  }
  EXPECT_TRUE(refusal("h3o").ends_with(", infllm, none")) << refusal("h3o");
}

TEST(Methods, KeepIsTokensOrAShare) {
  EXPECT_EQ(parse_keep("512")->n_tokens, 512U);
  EXPECT_EQ(parse_keep("0.25")->n_tokens, 0U);
  EXPECT_DOUBLE_EQ(parse_keep("0.25")->share, 0.25);
  EXPECT_DOUBLE_EQ(parse_keep(".5")->share, 0.5);
  for (const char* text : {"", "0", "1", "-3", "1.5", "25%", "nan", "inf", "1e99", "512 ", "x",
                           "16777217", " 64", "0x40", "+64", "0x1p-2"}) {
    EXPECT_NE(keep_refusal(text), "accepted") << text;
  }
  EXPECT_NE(keep_refusal("1.5").find("not '1.5'"), std::string::npos);
}

TEST(Methods, KeepIsBytes) {
  EXPECT_EQ(parse_keep("64M")->n_bytes, 64U << 20);
  EXPECT_EQ(parse_keep("1.5K")->n_bytes, 1536U);
  EXPECT_EQ(parse_keep("2G")->n_bytes, 2ULL << 30);
  EXPECT_EQ(parse_keep("512")->n_bytes, 0U);
  for (const char* text :
       {"M", "0M", "-1M", "1MB", "64 M", "1e9G", "nanM", "64m", "1MM", "0x4M", " 4M"}) {
    EXPECT_NE(keep_refusal(text), "accepted") << text;
  }
}

TEST(Methods, AFileOfHeadsIsNamedButNotByEverybody) {
  std::string heads;
  const auto shares = parse_policy("snapkv:window=16,heads=a/b.tsv,recent=16", &heads);
  ASSERT_TRUE(shares) << shares.error().message;
  EXPECT_EQ(heads, "a/b.tsv");
  EXPECT_EQ(shares->head_file, HeadFile::shares);
  EXPECT_EQ(shares->recent, 16U);
  EXPECT_EQ(parse_policy("duo-attention:heads=x", &heads)->head_file, HeadFile::classes);
  EXPECT_NE(refusal("snapkv:heads=a.tsv").find("cannot be named here"), std::string::npos);
  for (const char* text : {"snapkv:heads=", "snapkv:heads", "tova:heads=x", "ada-snapkv:heads=x",
                           "pyramidkv:heads=x", "streaming-llm:heads=x"}) {
    EXPECT_FALSE(parse_policy(text, &heads)) << text;
  }
}

TEST(Methods, ABudgetHoldsMoreThanWhatIsProtected) {
  const auto policy = parse_policy("knorm:sinks=4,recent=60");
  EXPECT_TRUE(check_budget(*policy, *parse_keep("65")));
  const auto refused = check_budget(*policy, *parse_keep("64"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message,
            "kv-keep is 64 tokens, but 4 first and 60 newest ones stay in any case: give it more "
            "than 64, or the policy smaller sinks or recent");
  EXPECT_TRUE(check_budget(*policy, *parse_keep("0.001")));  // then 64 rows stay
}

TEST(Budget, RowsToKeep) {
  const auto policy = *parse_policy("knorm:sinks=4,recent=8,every=100");
  EXPECT_EQ(rows_to_keep(policy, *parse_keep("512"), 10000), 512U);
  EXPECT_EQ(rows_to_keep(policy, *parse_keep("0.25"), 1001), 251U);
  EXPECT_EQ(rows_to_keep(policy, *parse_keep("0.25"), 10), 12U);
  EXPECT_EQ(max_stored_rows(policy, 512, 10000, 0, 4), 612U);
  EXPECT_EQ(max_stored_rows(policy, 512, 600, 3, 4), 600U);
  EXPECT_EQ(max_stored_rows(*parse_policy("knorm:every=0"), 512, 10000, 0, 4), 10000U);
}

TEST(Budget, APyramidHasTheMeanAndItsBounds) {
  const auto policy = *parse_policy("pyramidkv:recent=8,window=8,beta=5,every=100");
  std::uint32_t total = 0;
  for (std::uint32_t l = 0; l < 5; ++l) total += rows_of_layer(policy, 108, l, 5, 10000);
  EXPECT_EQ(total, 5 * 108U);
  EXPECT_EQ(rows_of_layer(policy, 108, 0, 5, 10000), 8 + 180U);  // 100 / 5 = 20, 200 - 20 = 180
  EXPECT_EQ(rows_of_layer(policy, 108, 4, 5, 10000), 8 + 20U);
  EXPECT_EQ(rows_of_layer(policy, 108, 0, 5, 128), 8 + 120U);  // what there is
  EXPECT_EQ(rows_of_layer(policy, 108, 4, 5, 128), 8 + 80U);
  for (std::uint32_t l = 0; l < 5; ++l) {
    for (std::uint32_t n_tokens = 108; n_tokens < 400; ++n_tokens) {
      EXPECT_LE(rows_of_layer(policy, 108, l, 5, n_tokens) + 100,
                max_stored_rows(policy, 108, 10000, l, 5));
    }
  }
}

TEST(Budget, TheNewestShareOfTheBudget) {
  const auto policy = *parse_policy("h2o:sinks=4,recent=10");
  EXPECT_EQ(protected_newest(policy, 100), 50U);
  EXPECT_EQ(protected_newest(policy, 16), 10U);
  EXPECT_EQ(protected_newest(policy, 12), 8U);
}

}  // namespace
}  // namespace larder
