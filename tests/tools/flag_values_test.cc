#include "flag_values.h"

#include <gtest/gtest.h>

namespace larder {
namespace {

TEST(ParseBytes, ReadsPlainNumbersAndBothKindsOfUnits) {
  EXPECT_EQ(parse_bytes("4096").value(), 4096U);
  EXPECT_EQ(parse_bytes("512M").value(), 512ULL << 20);
  EXPECT_EQ(parse_bytes("2G").value(), 2ULL << 30);
  EXPECT_EQ(parse_bytes("1.5GiB").value(), 3ULL << 29);
  EXPECT_EQ(parse_bytes("8GB").value(), 8'000'000'000U);
  EXPECT_EQ(parse_bytes("0").value(), 0U);
  EXPECT_EQ(parse_bytes("0.0").value(), 0U);
  EXPECT_EQ(parse_bytes("64.0").value(), 64U);
  EXPECT_EQ(parse_bytes("0.25K").value(), 256U);
}

TEST(ParseBytes, RefusesWhatIsNoSizeByName) {
  for (const char* text :
       {"", "G", "-1G", "1.5.2G", "2 G", "2Q", "1e3", "0x10", "99999999999T", ".", "nan", "inf",
        "512m", "0.25", "1.5", "0.5B", "0.0001K", "0.0000001MB"}) {
    const auto parsed = parse_bytes(text);
    ASSERT_FALSE(parsed.has_value()) << text;
    EXPECT_NE(parsed.error().message.find(fmt::format("'{}'", text)), std::string::npos);
  }
}

TEST(ShowBytes, KeepsThreeDigits) {
  EXPECT_EQ(show_bytes(0), "0 B");
  EXPECT_EQ(show_bytes(999), "999 B");
  EXPECT_EQ(show_bytes(1024), "1.00 KiB");
  EXPECT_EQ(show_bytes(327680), "320 KiB");
  EXPECT_EQ(show_bytes(1.5 * (1 << 30)), "1.50 GiB");
  EXPECT_EQ(show_bytes(1023 * 1024), "1.00 MiB");
}

TEST(ParseNumber, FillsTheTextAndFitsTheType) {
  EXPECT_EQ(parse_number<std::uint32_t>("42").value(), 42U);
  EXPECT_EQ(parse_number<std::int32_t>("-1").value(), -1);
  EXPECT_FLOAT_EQ(parse_number<float>("0.25").value(), 0.25F);
  EXPECT_FALSE(parse_number<std::uint32_t>("-1"));
  EXPECT_FALSE(parse_number<std::uint32_t>("4294967296"));
  EXPECT_FALSE(parse_number<std::uint32_t>("12x"));
  EXPECT_FALSE(parse_number<float>("nan"));
  EXPECT_FALSE(parse_number<float>(""));
}

TEST(SplitList, RefusesEmptyParts) {
  EXPECT_EQ(split_list("a,b").value(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(split_list("a").value(), (std::vector<std::string>{"a"}));
  for (const char* text : {"", ",", "a,", ",a", "a,,b"}) EXPECT_FALSE(split_list(text)) << text;
}

TEST(ParseLogitBias, IsAnIdAndAFiniteValue) {
  EXPECT_EQ(parse_logit_bias("15043=-2.5").value(), (std::pair{15043, -2.5F}));
  for (const char* text : {"", "1", "1=", "=2", "a=1", "1=inf", "1:2"}) {
    EXPECT_FALSE(parse_logit_bias(text)) << text;
  }
}

TEST(ShownName, IsTheFirstLongOne) {
  EXPECT_EQ(shown_name("-c,--ctx-size,--max-model-len"), "--ctx-size");
  EXPECT_EQ(shown_name("--memory"), "--memory");
}

}  // namespace
}  // namespace larder
