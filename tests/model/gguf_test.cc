#include "model/io/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <limits>

#include "model/gguf_builder.h"

namespace larder {
namespace {

using testing::HasSubstr;

TEST(Gguf, ReadsWhatTheWriterWrote) {
  const TemporaryFile out("round_trip.gguf");
  auto writer = GgufWriter::create(out.path());
  ASSERT_TRUE(writer) << writer.error().message;
  writer->put("a.u8", GgufType::u8, std::uint64_t{255});
  writer->put("a.i16", GgufType::i16, std::int64_t{-300});
  writer->put("a.u64", GgufType::u64, std::numeric_limits<std::uint64_t>::max());
  writer->put("a.f32", GgufType::f32, 0.5);
  writer->put("a.f64", GgufType::f64, 0.1);
  writer->put("a.bool", GgufType::boolean, true);
  writer->put("a.text", GgufType::string, std::string("first"));
  writer->put("a.text", GgufType::string, std::string("last counts"));
  writer->put_array("b.u32", GgufType::u32, std::vector<std::int64_t>{1, 2, 3});
  writer->put_array("b.f32", GgufType::f32, std::vector<double>{0.25, -1});
  writer->put_array("b.bool", GgufType::boolean, std::vector<bool>{true, false, true});
  writer->put_array("b.text", GgufType::string, std::vector<std::string>{"x", "", "yz"});
  const std::uint64_t matrix[] = {3, 32}, vector[] = {5};
  writer->announce("m.weight", DType::q8_0, matrix);
  writer->announce("v.bias", DType::f32, vector);
  ASSERT_TRUE(writer->begin_data());
  const std::vector<std::byte> m(3 * 34, std::byte{7}), v(20, std::byte{9});
  ASSERT_TRUE(writer->append(std::span(m).first(50)));
  ASSERT_TRUE(writer->append(std::span(m).subspan(50)));
  ASSERT_TRUE(writer->write_tensor(v));
  EXPECT_FALSE(std::filesystem::exists(out.path()));  // only the part file so far
  ASSERT_TRUE(writer->finish());

  const auto opened = GgufFile::open(out.path());
  ASSERT_TRUE(opened) << opened.error().message;
  const GgufFile& file = **opened;
  const GgufMetadata& meta = file.metadata();
  EXPECT_EQ(meta.u32("a.u8").value(), 255U);
  EXPECT_EQ(*meta.find("a.i16"), GgufValue(std::int64_t{-300}));
  EXPECT_EQ(*meta.find("a.u64"), GgufValue(std::numeric_limits<std::uint64_t>::max()));
  EXPECT_EQ(meta.f32("a.f32").value(), 0.5F);
  EXPECT_EQ(*meta.find("a.f64"), GgufValue(0.1));
  EXPECT_TRUE(meta.bool_or("a.bool", false).value());
  EXPECT_EQ(meta.string("a.text").value(), "last counts");
  EXPECT_EQ(meta.ints("b.u32").value(), (std::vector<std::int64_t>{1, 2, 3}));
  EXPECT_EQ(meta.floats("b.f32").value(), (std::vector<double>{0.25, -1}));
  EXPECT_EQ(meta.ints("b.bool").value(), (std::vector<std::int64_t>{1, 0, 1}));
  EXPECT_EQ(meta.strings("b.text").value(), (std::vector<std::string>{"x", "", "yz"}));
  EXPECT_EQ(meta.type("a.i16"), GgufType::i16);
  EXPECT_EQ(meta.type("b.f32"), GgufType::f32);
  ASSERT_EQ(file.tensors().size(), 2U);
  const TensorView& view = file.find("m.weight")->view;
  EXPECT_EQ(view.n_rows(), 3U);
  EXPECT_EQ(view.n_cols(), 32U);
  EXPECT_TRUE(std::equal(view.bytes.begin(), view.bytes.end(), m.begin(), m.end()));
  const auto bias = file.find("v.bias")->view.bytes;
  EXPECT_TRUE(std::equal(bias.begin(), bias.end(), v.begin(), v.end()));
  EXPECT_EQ(file.find("nothing"), nullptr);
  EXPECT_EQ(file.file_bytes(), std::filesystem::file_size(out.path()));
}

TEST(Gguf, UnfinishedWriterLeavesNothing) {
  const TemporaryFile out("unfinished.gguf");
  {
    auto writer = GgufWriter::create(out.path());
    ASSERT_TRUE(writer);
    ASSERT_TRUE(writer->begin_data());
  }
  EXPECT_FALSE(std::filesystem::exists(out.path()));
  EXPECT_FALSE(GgufWriter::create("/nonexistent/x.gguf"));
}

TEST(Gguf, FilesThatAreNone) {
  EXPECT_EQ(GgufFile::open("/nonexistent/x.gguf").error().code, Errc::not_found);
  EXPECT_EQ(GgufFile::open("/").error().code, Errc::invalid_argument);
  EXPECT_EQ(GgufFile::open("/dev/zero").error().code, Errc::invalid_argument);
  const TemporaryFile pipe("pipe.gguf");
  ASSERT_EQ(::mkfifo(pipe.path().c_str(), 0600), 0);
  EXPECT_THAT(GgufFile::open(pipe.path()).error().message, HasSubstr("not a regular file"));
  const TemporaryFile vast("vast.gguf");  // a hole of more bytes than there are addresses
  vast.write("GGUF");
  std::error_code cannot;
  std::filesystem::resize_file(vast.path(), (1ULL << 62), cannot);
  if (!cannot) {
    EXPECT_EQ(GgufFile::open(vast.path()).error().code, Errc::invalid_argument);
  }
  const TemporaryFile empty("empty.gguf");
  empty.write("");
  EXPECT_THAT(GgufFile::open(empty.path()).error().message, HasSubstr("ends at byte 0"));
  EXPECT_THAT(GgufBuilder().raw(0x12345678U).error(), HasSubstr("begins with 0x12345678"));
}

TEST(Gguf, Versions) {
  EXPECT_EQ(GgufBuilder().head(0, 0, 3).error(), "");
  EXPECT_EQ(GgufBuilder().head(0, 0, 2).error(), "");
  EXPECT_THAT(GgufBuilder().head(0, 0, 1).error(), HasSubstr("version 1"));
  EXPECT_THAT(GgufBuilder().head(0, 0, 4).error(), HasSubstr("version 4"));
  EXPECT_THAT(GgufBuilder().head(0, 0, 0x03000000).error(), HasSubstr("big-endian"));
}

TEST(Gguf, LyingCountsAndLengths) {
  constexpr std::uint64_t kHuge = ~0ULL;
  EXPECT_THAT(GgufBuilder().head(kHuge, 0).error(), HasSubstr("tensor count"));
  EXPECT_THAT(GgufBuilder().head(0, kHuge).error(), HasSubstr("metadata count"));
  EXPECT_THAT(GgufBuilder().head(1, 0).error(), HasSubstr("tensor count 1 does not fit"));
  EXPECT_THAT(GgufBuilder().head(0, 1).raw(kHuge).data(64).error(), HasSubstr("length"));
  EXPECT_THAT(GgufBuilder().head(0, 1).key("k", GgufType::string).raw(kHuge).error(),
              HasSubstr("metadata key 'k': length"));
  EXPECT_THAT(GgufBuilder().head(0, 1).array("k", GgufType::f32, kHuge / 2).data(64).error(),
              HasSubstr("does not fit"));
  EXPECT_THAT(GgufBuilder().head(0, 1).array("k", GgufType::string, 2).text("a").raw(kHuge).error(),
              HasSubstr("element 1 of metadata key 'k'"));
}

TEST(Gguf, OddValues) {
  EXPECT_THAT(GgufBuilder().head(0, 1).key("k", static_cast<GgufType>(13)).raw(0ULL).error(),
              HasSubstr("unknown value type 13"));
  EXPECT_THAT(GgufBuilder().head(0, 1).array("k", static_cast<GgufType>(77), 0).error(),
              HasSubstr("array of unknown type 77"));
  EXPECT_THAT(GgufBuilder().head(0, 1).array("k", GgufType::array, 1).data(64).error(),
              HasSubstr("array of arrays"));
  EXPECT_THAT(GgufBuilder().head(0, 1).key("k", GgufType::boolean).raw(std::uint8_t{2}).error(),
              HasSubstr("boolean with value 2"));
  EXPECT_THAT(GgufBuilder().head(0, 1).key("", GgufType::u32).raw(1U).error(),
              HasSubstr("empty key"));
  GgufBuilder twice;
  twice.head(0, 2).key("k\n", GgufType::u32).raw(1U).key("k\n", GgufType::u32).raw(1U);
  EXPECT_EQ(twice.error(), "x.gguf: metadata key 'k\\x0a' occurs twice");
}

TEST(Gguf, Alignment) {
  const auto with = [](std::uint32_t alignment) {
    return GgufBuilder().head(0, 1).key("general.alignment", GgufType::u32).raw(alignment);
  };
  EXPECT_EQ(with(64).error(), "");
  for (const std::uint32_t bad : {0U, 1U, 4U, 24U, 1U << 20, ~0U}) {
    EXPECT_THAT(with(bad).error(), HasSubstr("general.alignment = ")) << bad;
  }
  GgufBuilder text;
  text.head(0, 1).key("general.alignment", GgufType::string).text("32");
  EXPECT_THAT(text.error(), HasSubstr("'general.alignment' is a string"));
}

TEST(Gguf, TensorDirectory) {
  const auto one = [](const GgufBuilder::Tensor& t, std::size_t n_bytes = 64) {
    return GgufBuilder().head(1, 0).tensor(t).data(n_bytes).error();
  };
  EXPECT_EQ(one({}), "");
  EXPECT_THAT(one({.n_dims = 0}), HasSubstr("0 dimensions"));
  EXPECT_THAT(one({.n_dims = 5}), HasSubstr("5 dimensions"));
  EXPECT_THAT(one({.dims = {0, 2}}), HasSubstr("dimension 0 = 0"));
  EXPECT_THAT(one({.dims = {1ULL << 40, 1ULL << 40}}), HasSubstr("impossible size"));
  EXPECT_THAT(one({.dims = {~0ULL, 1}}), HasSubstr("impossible size"));
  EXPECT_THAT(one({.type = 23}), HasSubstr("'a.weight': unsupported type 23 = IQ4_XS"));
  EXPECT_THAT(one({.type = 999}), HasSubstr("unknown type 999"));
  EXPECT_THAT(one({.dims = {48, 1}, .type = 8}), HasSubstr("rows of 48 elements"));
  EXPECT_THAT(one({.offset = 16}), HasSubstr("offset 16 is not a multiple"));
  EXPECT_THAT(one({.offset = 1ULL << 62}), HasSubstr("exceeds the 64 bytes"));
  EXPECT_THAT(one({.offset = 64}), HasSubstr("is the file complete?"));
  EXPECT_THAT(one({.dims = {4, 5}}), HasSubstr("80 bytes exceeds the 64 bytes"));
  EXPECT_THAT(one({.name = ""}), HasSubstr("empty name"));
  EXPECT_THAT(one({.name = std::string_view("\x1b[31m\0", 6)}, 0), HasSubstr("'\\x1b[31m\\x00'"));
}

TEST(Gguf, SeveralTensors) {
  const auto two = [](GgufBuilder::Tensor a, GgufBuilder::Tensor b) {
    return GgufBuilder().head(2, 0).tensor(a).tensor(b).data(96).error();
  };
  EXPECT_EQ(two({.offset = 64}, {.name = "b"}), "");  // gaps and any order
  EXPECT_THAT(two({}, {}), HasSubstr("overlaps"));
  EXPECT_THAT(two({}, {.offset = 32}), HasSubstr("tensor 'a.weight' occurs twice"));
  EXPECT_THAT(two({.dims = {16, 1}}, {.name = "b", .offset = 32}),
              HasSubstr("tensor 'b' at offset 32 overlaps tensor 'a.weight' at 0 + 64"));
}

TEST(Gguf, LargeHeaders) {
  GgufBuilder strings;  // a vocabulary of a quarter million pieces
  strings.head(0, 1).array("tokens", GgufType::string, 262144);
  for (int i = 0; i < 262144; ++i) strings.text("piece" + std::to_string(i));
  const auto file = GgufFile::parse(strings.view(), "x");
  ASSERT_TRUE(file);
  EXPECT_EQ((*file)->metadata().strings("tokens")->back(), "piece262143");

  GgufBuilder many;  // 80 MB of empty strings are refused before they become 320 MB
  many.head(0, 1).array("k", GgufType::string, 10'000'000);
  many.bytes.resize(many.bytes.size() + 80'000'000);
  EXPECT_THAT(many.error(), HasSubstr("exceeds the limit of 4194304"));
}

TEST(GgufMetadata, DropsWhatBeginsSo) {
  GgufMetadata meta("f");
  meta.set("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b"});
  meta.set("tokenizer.x", std::uint64_t{1});
  meta.set("token", std::uint64_t{2});
  meta.drop("tokenizer.");
  EXPECT_EQ(meta.entries().size(), 1U);
  EXPECT_EQ(meta.u32("token").value(), 2U);
  EXPECT_FALSE(meta.has("tokenizer.x"));
}

TEST(GgufMetadata, LookUpsNameKeyAndValue) {
  GgufMetadata meta("x.gguf");
  meta.set("n", std::uint64_t{1} << 40);
  meta.set("i", std::int64_t{-1});
  meta.set("s", std::string("t"));
  meta.set("inf", std::numeric_limits<double>::infinity());
  meta.set("seven", std::uint64_t{7});
  EXPECT_EQ(meta.u32("gone").error().message, "x.gguf: metadata key 'gone' is missing");
  EXPECT_THAT(meta.u32("n").error().message, HasSubstr("'n' = 1099511627776 exceeds 32 bits"));
  EXPECT_THAT(meta.u32("i").error().message, HasSubstr("'i' = -1"));
  EXPECT_THAT(meta.u32_or("s", 1).error().message, HasSubstr("'s' is a string"));
  EXPECT_THAT(meta.f32("inf").error().message, HasSubstr("not a finite number"));
  EXPECT_THAT(meta.strings("s").error().message, HasSubstr("expected a list of strings"));
  EXPECT_THAT(meta.bool_or("seven", true).error().message, HasSubstr("expected true or false"));
  EXPECT_EQ(meta.f32("seven").value(), 7.0F);
  EXPECT_EQ(meta.u32_or("gone", 5).value(), 5U);
  EXPECT_TRUE(meta.strings("gone")->empty());
  EXPECT_EQ(meta.type("seven"), GgufType::u64);
}

}  // namespace
}  // namespace larder
