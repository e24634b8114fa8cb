#include "model/tokenizer_fixture.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <iterator>

namespace larder {

std::string tokenizer_fixture_path(std::string_view name) {
  return std::string(LARDER_TEST_DATA "/tokenizers/").append(name);
}

std::string read_fixture(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::vector<std::string> fixture_strings() {
  const std::string bytes = read_fixture(tokenizer_fixture_path("strings.bin"));
  std::vector<std::string> strings;
  for (std::size_t at = 0; at + 2 <= bytes.size();) {
    std::uint16_t n_bytes = 0;
    std::memcpy(&n_bytes, bytes.data() + at, sizeof n_bytes);
    strings.push_back(bytes.substr(at + 2, n_bytes));
    at += 2 + n_bytes;
  }
  return strings;
}

std::vector<TokenizerExpectation> fixture_expectations(std::string_view name) {
  const std::string bytes = read_fixture(tokenizer_fixture_path(name) + ".expect");
  static_assert(sizeof(TokenizerExpectation) == 8);
  std::vector<TokenizerExpectation> all(bytes.size() / sizeof(TokenizerExpectation));
  std::memcpy(all.data(), bytes.data(), all.size() * sizeof(TokenizerExpectation));
  return all;
}

std::uint32_t fnv(std::string_view bytes) {
  std::uint32_t value = 0x811C9DC5U;
  for (const char c : bytes) value = (value ^ static_cast<unsigned char>(c)) * 0x01000193U;
  return value;
}

std::uint32_t fnv(std::span<const TokenId> ids) {
  return fnv(std::string_view(reinterpret_cast<const char*>(ids.data()), ids.size_bytes()));
}

namespace {

TEST(TokenizerFixture, HasThousandsOfStrings) { EXPECT_GE(fixture_strings().size(), 2000U); }

TEST(TokenizerFixture, HashesAsPublished) { EXPECT_EQ(fnv("foobar"), 0xBF9CF968U); }

}  // namespace
}  // namespace larder
