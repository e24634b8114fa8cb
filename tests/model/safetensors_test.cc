#include "model/io/safetensors.h"

#include <gmock/gmock.h>

#include "safetensors_builder.h"
#include "scratch_dir.h"

namespace larder {
namespace {

using testing::HasSubstr;

Result<std::unique_ptr<SafetensorsFile>> parse(const std::string& bytes) {
  return SafetensorsFile::parse(std::as_bytes(std::span(bytes)), "x.safetensors");
}

std::string error_of(const std::string& bytes) {
  const auto file = parse(bytes);
  return file ? "no error" : file.error().message;
}

std::string entry(std::string_view name, std::string_view rest) {
  return "\"" + std::string(name) + "\":{" + std::string(rest) + "}";
}

std::string with_header(const std::string& header, std::size_t n_data = 16) {
  return SafetensorsBuilder::framed(header, std::string(n_data, '\0'));
}

TEST(Safetensors, ReadsTensorsByOffset) {
  ScratchDir dir;
  SafetensorsBuilder builder;
  builder.add_f32("b", {2, 3}, 1, 1).add("a", {2}, "BF16", std::string("\x80\x3f\x00\x40", 4));
  builder.add("mask", {3}, "BOOL", "abc").add("five", {1, 1, 1, 1, 1}, "F32", "abcd");
  dir.write("m.safetensors", builder.bytes());
  const auto file = SafetensorsFile::open(dir.path("m.safetensors"));
  ASSERT_TRUE(file) << file.error().message;
  const auto tensors = (*file)->tensors();
  ASSERT_EQ(tensors.size(), 4U);
  EXPECT_EQ(tensors[0].name, "b");
  ASSERT_TRUE(tensors[0].view);
  EXPECT_EQ(tensors[0].view->n_dims, 2U);
  EXPECT_EQ(tensors[0].view->shape[1], 3U);
  float last = 0;
  std::memcpy(&last, tensors[0].view->bytes.data() + 20, sizeof last);
  EXPECT_EQ(last, 6.0F);
  EXPECT_EQ(tensors[1].view->dtype, DType::bf16);
  EXPECT_FALSE(tensors[2].view);
  EXPECT_EQ(tensors[2].dtype, "BOOL");
  EXPECT_FALSE(tensors[3].view) << "five dimensions";
}

TEST(Safetensors, AlignsWhatTheFileDoesNot) {
  SafetensorsBuilder builder;
  builder.add("odd", {1}, "U8", "x").add_f32("w", {4}, 1, 1);
  const std::string bytes = builder.bytes(/*pad=*/false);
  const auto file = parse(bytes);
  ASSERT_TRUE(file) << file.error().message;
  const auto view = *(*file)->tensors()[1].view;
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(view.bytes.data()) % sizeof(float), 0U);
  float values[4];
  std::memcpy(values, view.bytes.data(), sizeof values);
  EXPECT_EQ(values[3], 4.0F);
}

TEST(Safetensors, PassesOverMetadata) {
  for (const std::string metadata :
       {R"({"format":"pt"})", R"({"a":{"b":[1,{}]}})", R"("text")", "1", "null", "[1,[2]]", "{}"}) {
    const std::string header = "{\"__metadata__\":" + metadata + "," +
                               entry("w", R"("dtype":"F32","shape":[4],"data_offsets":[0,16])") +
                               "}";
    const std::string bytes = with_header(header);
    const auto file = parse(bytes);
    ASSERT_TRUE(file) << metadata << ": " << file.error().message;
    EXPECT_EQ((*file)->tensors().size(), 1U);
  }
}

TEST(Safetensors, RefusesEveryTruncation) {
  const std::string whole =
      SafetensorsBuilder().add_f32("a", {2, 2}, 0, 1).add_f32("b", {1}, 0, 1).bytes();
  ASSERT_TRUE(parse(whole));
  for (std::size_t n = 0; n < whole.size(); ++n) {
    const std::string cut = whole.substr(0, n);
    EXPECT_FALSE(parse(cut)) << n;
  }
}

TEST(Safetensors, SurvivesEveryFlippedByte) {
  const std::string whole = SafetensorsBuilder().add_f32("a", {2, 2}, 0, 1).bytes();
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (const int flip : {1, 0x80, 0xff}) {
      std::string bad = whole;
      bad[i] = static_cast<char>(bad[i] ^ flip);
      const auto file = parse(bad);
      if (file) continue;
      EXPECT_THAT(file.error().message, HasSubstr("x.safetensors"));
    }
  }
}

TEST(Safetensors, NamesWhatIsWrong) {
  const auto tensor = [](std::string_view rest) {
    return with_header("{" + entry("w", rest) + "}");
  };
  EXPECT_THAT(
      error_of(tensor(R"("dtype":"F32","shape":[4],"data_offsets":[0,20])")),
      HasSubstr("tensor 'w' has data_offsets [0, 20] beyond the end of the file: the data has 16"));
  EXPECT_THAT(error_of(tensor(R"("dtype":"F32","shape":[4],"data_offsets":[16,0])")),
              HasSubstr("data_offsets [16, 0]"));
  EXPECT_THAT(error_of(tensor(R"("dtype":"F32","shape":[3],"data_offsets":[0,16])")),
              HasSubstr("has 16 bytes, its shape [3] needs 12"));
  EXPECT_THAT(
      error_of(tensor(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,16])")),
      HasSubstr("more than 64 bits"));
  EXPECT_THAT(error_of(tensor(R"("dtype":"F99","shape":[4],"data_offsets":[0,16])")),
              HasSubstr("unknown dtype 'F99'"));
  EXPECT_THAT(error_of(tensor(R"("dtype":"F32","shape":[4])")), HasSubstr("lacks one of"));
  EXPECT_THAT(error_of(tensor(R"("dtype":"F32","shape":[-4],"data_offsets":[0,16])")),
              HasSubstr("a negative number"));
  EXPECT_THAT(error_of(tensor(R"("dtype":"F32","dtype":"F32","shape":[4],"data_offsets":[0,16])")),
              HasSubstr("'dtype' twice"));
  EXPECT_THAT(error_of(tensor(R"("dtype":"F32","shape":[4],"data_offsets":[0,8,16])")),
              HasSubstr("more than two"));
  EXPECT_THAT(error_of(tensor(R"("colour":"red")")), HasSubstr("'colour' that is unknown"));
  EXPECT_THAT(error_of(with_header("[]")), HasSubstr("not an object"));
  EXPECT_THAT(error_of(with_header(R"({"w":5})")), HasSubstr("a number"));
  EXPECT_THAT(error_of(with_header("{]")), HasSubstr("not JSON"));
  EXPECT_THAT(error_of(with_header(
                  "{" + entry("w", R"("dtype":"F32","shape":[4],"data_offsets":[0,16])") + "," +
                  entry("w", R"("dtype":"F32","shape":[0],"data_offsets":[0,0])") + "}")),
              HasSubstr("'w' is there twice"));
  EXPECT_THAT(error_of(with_header(
                  "{" + entry("a", R"("dtype":"U8","shape":[2],"data_offsets":[0,2])") + "," +
                  entry("b", R"("dtype":"U8","shape":[2],"data_offsets":[0,4611686018427387904])") +
                  "," + entry("c", R"("dtype":"U8","shape":[2],"data_offsets":[2,4])") + "}")),
              HasSubstr("'b' has data_offsets [0, 4611686018427387904] beyond the end"));
  EXPECT_THAT(error_of(with_header(
                  "{" + entry("a", R"("dtype":"F32","shape":[2],"data_offsets":[0,8])") + "," +
                  entry("b", R"("dtype":"F32","shape":[2],"data_offsets":[4,12])") + "}")),
              HasSubstr("tensors 'a' and 'b' overlap"));
}

TEST(Safetensors, BoundsTheHeader) {
  std::string bytes(16, '\0');
  const std::uint64_t absurd = 1ULL << 60;
  std::memcpy(bytes.data(), &absurd, sizeof absurd);
  EXPECT_THAT(error_of(bytes), HasSubstr("header's length is 1152921504606846976"));
  // A tree of these brackets would take hundreds of times their bytes.
  EXPECT_THAT(error_of(with_header("{\"w\":" + std::string(1 << 20, '['))), HasSubstr("an array"));
}

}  // namespace
}  // namespace larder
