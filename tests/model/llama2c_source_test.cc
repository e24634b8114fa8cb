#include "model/io/llama2c_source.h"

#include <gmock/gmock.h>

#include <array>
#include <cstring>

#include "model/weights.h"
#include "scratch_dir.h"

namespace larder {
namespace {

using testing::HasSubstr;

// dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len
using Sizes = std::array<std::int32_t, 7>;
constexpr Sizes kSizes = {8, 12, 2, 2, 1, 10, 16};
constexpr std::size_t kMatrixElems = 10 * 8 + 2 * (8 * 8 + 4 * 8 + 4 * 8 + 8 * 8 + 3 * 8 * 12);
constexpr std::size_t kNormElems = 5 * 8;
constexpr std::size_t kTableElems = 16 * 4;

template <class T>
void append(std::string& bytes, const T& value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

/// n floats 0, 1, 2, ... so that a value tells its place.
void append_floats(std::string& bytes, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) append(bytes, static_cast<float>(i));
}

std::string legacy(Sizes sizes = kSizes) {
  std::string bytes;
  append(bytes, sizes);
  append_floats(bytes, kMatrixElems + kNormElems + kTableElems);
  if (sizes[5] < 0) append_floats(bytes, 10 * 8);
  return bytes;
}

std::string with_magic(std::uint32_t version, std::uint32_t group = 4) {
  std::string bytes;
  append(bytes, std::uint32_t{0x616b3432});
  append(bytes, version);
  append(bytes, kSizes);
  bytes += '\1';
  append(bytes, group);
  bytes.resize(256, '\0');
  return bytes;
}

std::string version1() {
  std::string bytes = with_magic(1);
  append_floats(bytes, kNormElems + kMatrixElems);
  return bytes;
}

/// Every int8 is 3 and every scale 0.5.
std::string version2() {
  std::string bytes = with_magic(2);
  append_floats(bytes, kNormElems);
  for (const std::size_t n : {80, 64, 64, 32, 32, 32, 32, 64, 64, 96, 96, 96, 96, 96, 96}) {
    bytes.append(n, '\3');
    for (std::size_t i = 0; i < n / 4; ++i) append(bytes, 0.5F);
  }
  return bytes;
}

Result<std::unique_ptr<ModelSource>> parse(const std::string& bytes) {
  return parse_llama2c(std::as_bytes(std::span(bytes)), "m.bin");
}

std::string error_of(const std::string& bytes) {
  const auto source = parse(bytes);
  return source ? "no error" : source.error().message;
}

float first_of(const ModelSource& source, std::string_view name) {
  float value = -1;
  if (const auto view = source.find(name)) std::memcpy(&value, view->bytes.data(), sizeof value);
  return value;
}

TEST(Llama2c, LegacyOrder) {
  const std::string bytes = legacy();
  const auto source = parse(bytes);
  ASSERT_TRUE(source) << source.error().message;
  const ModelConfig& config = (*source)->config();
  EXPECT_EQ(config.head_dim, 4U);
  EXPECT_EQ(config.n_kv_heads, 1U);
  EXPECT_EQ(config.rope.style, RopeStyle::adjacent);
  EXPECT_EQ(first_of(**source, "token_embd.weight"), 0);
  EXPECT_EQ(first_of(**source, "blk.0.attn_norm.weight"), 80);
  EXPECT_EQ(first_of(**source, "blk.1.attn_norm.weight"), 88);
  EXPECT_EQ(first_of(**source, "blk.0.attn_q.weight"), 96);
  EXPECT_EQ(first_of(**source, "blk.1.ffn_down.weight"), 496 + 192 + 96);
  EXPECT_EQ(first_of(**source, "output_norm.weight"), kMatrixElems + kNormElems - 8);
  EXPECT_FALSE((*source)->find("output.weight"));
  EXPECT_TRUE(Weights::load(**source));
}

TEST(Llama2c, NegativeVocabularyHasItsOwnOutput) {
  Sizes sizes = kSizes;
  sizes[5] = -10;
  const std::string bytes = legacy(sizes);
  const auto source = parse(bytes);
  ASSERT_TRUE(source) << source.error().message;
  EXPECT_EQ((*source)->config().n_vocab, 10U);
  EXPECT_TRUE((*source)->find("output.weight"));
  EXPECT_TRUE(Weights::load(**source));
}

TEST(Llama2c, LaterVersionsPutNormsFirst) {
  const std::string one = version1();
  const auto floats = parse(one);
  ASSERT_TRUE(floats) << floats.error().message;
  EXPECT_EQ(first_of(**floats, "blk.0.ffn_norm.weight"), 16);
  EXPECT_EQ(first_of(**floats, "token_embd.weight"), 40);
  const std::string two = version2();
  const auto int8 = parse(two);
  ASSERT_TRUE(int8) << int8.error().message;
  EXPECT_EQ(first_of(**int8, "token_embd.weight"), 1.5F);
  EXPECT_EQ(first_of(**int8, "blk.1.ffn_up.weight"), 1.5F);
  EXPECT_EQ(first_of(**int8, "output_norm.weight"), 32);
  EXPECT_TRUE(Weights::load(**int8));
}

TEST(Llama2c, RefusesEveryTruncation) {
  for (const std::string& whole : {version1(), version2()}) {
    for (std::size_t n = 0; n < whole.size(); n += n < 300 ? 1 : 37) {
      const std::string cut = whole.substr(0, n);
      EXPECT_FALSE(parse(cut)) << n;
    }
    const std::string cut = whole.substr(0, whole.size() - 1);
    EXPECT_FALSE(parse(cut));
  }
  const std::string whole = legacy();  // the unused tables at its end may be missing
  for (std::size_t n = 0; n < whole.size() - kTableElems * sizeof(float); n += n < 100 ? 1 : 37) {
    const std::string cut = whole.substr(0, n);
    EXPECT_FALSE(parse(cut)) << n;
  }
}

TEST(Llama2c, NamesFieldAndValue) {
  const auto changed = [](std::size_t field, std::int32_t value) {
    Sizes sizes = kSizes;
    sizes[field] = value;
    return error_of(legacy(sizes));
  };
  EXPECT_THAT(changed(0, 0), HasSubstr("m.bin: field 'dim' is 0"));
  EXPECT_THAT(changed(0, 2000000000), HasSubstr("embedding length is 2000000000"));
  EXPECT_THAT(changed(2, -1), HasSubstr("field 'n_layers' is -1"));
  EXPECT_THAT(changed(3, 3), HasSubstr("field 'dim' is 8, not a multiple of n_heads 3"));
  EXPECT_THAT(changed(5, std::numeric_limits<std::int32_t>::min()), HasSubstr("'vocab_size' is"));
  EXPECT_THAT(changed(1, 1000000), HasSubstr("but its header asks for"));
  EXPECT_THAT(error_of(with_magic(3)), HasSubstr("llama2.c version is 3"));
  EXPECT_THAT(error_of(with_magic(2, 0)), HasSubstr("'group_size' is 0"));
  EXPECT_THAT(error_of(with_magic(2, 7)), HasSubstr("'group_size' is 7, but 'token_embd' has 80"));
}

}  // namespace
}  // namespace larder
