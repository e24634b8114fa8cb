#include "model/io/random_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "model/io/model_source.h"
#include "tensor/quantize.h"

namespace larder {
namespace {

class RandomModel : public testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove(path_); }
  std::string content() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  // Tests run side by side, each in a process of its own.
  const std::string path_ =
      testing::TempDir() + "larder_random_model_" + std::to_string(getpid()) + ".gguf";
};

TEST_F(RandomModel, OpensAsWhatItWasAskedFor) {
  const ModelConfig asked = random_model_config("TINY").value();
  ASSERT_TRUE(write_random_model(asked, DType::q8_0, path_));
  const auto source = open_model(path_);
  ASSERT_TRUE(source) << source.error().message;
  const ModelConfig& got = (*source)->config();
  EXPECT_EQ(got.arch, asked.arch);
  EXPECT_EQ(got.n_layers, asked.n_layers);
  EXPECT_EQ(got.n_heads, asked.n_heads);
  EXPECT_EQ(got.n_kv_heads, asked.n_kv_heads);
  EXPECT_EQ(got.head_dim, asked.head_dim);
  EXPECT_EQ(got.n_vocab, asked.n_vocab);
  EXPECT_EQ((*source)->tokenizer().tokens.size(), asked.n_vocab);
  EXPECT_TRUE((*source)->find("blk.1.ffn_down.weight"));
  EXPECT_FALSE((*source)->find("output.weight"));  // tied
}

TEST_F(RandomModel, WeightsKeepTheSizeOfWhatTheyMultiply) {
  ASSERT_TRUE(write_random_model(random_model_config("tiny").value(), DType::bf16, path_));
  const auto source = open_model(path_);
  ASSERT_TRUE(source) << source.error().message;
  const TensorView view = (*source)->find("blk.0.ffn_up.weight").value();
  std::vector<float> values(view.n_rows() * view.n_cols());
  for (std::size_t row = 0; row < view.n_rows(); ++row) {
    decode_row(view.dtype, view.bytes.data() + row * row_bytes(view.dtype, view.n_cols()),
               view.n_cols(), values.data() + row * view.n_cols());
  }
  double sum = 0, squares = 0;
  for (const float x : values) {
    sum += x;
    squares += x * x;
  }
  const auto n = static_cast<double>(values.size());
  EXPECT_NEAR(sum / n, 0, 0.01);
  EXPECT_NEAR(squares / n * static_cast<double>(view.n_cols()), 1, 0.1);
  const std::vector<float> first(values.begin(), values.begin() + 64);
  EXPECT_NE(first, std::vector<float>(values.begin() + 64, values.begin() + 128));
}

TEST_F(RandomModel, TheSameArgumentsGiveTheSameBytes) {
  const ModelConfig config = random_model_config("tiny").value();
  ASSERT_TRUE(write_random_model(config, DType::q4_0, path_));
  const std::string once = content();
  ASSERT_TRUE(write_random_model(config, DType::q4_0, path_));
  EXPECT_EQ(content(), once);
}

TEST_F(RandomModel, RefusesWhatItCannotWrite) {
  EXPECT_THAT(random_model_config("GPT-9").error().message, testing::HasSubstr("SmolLM2-135M"));
  const auto wide = write_random_model(random_model_config("tiny").value(), DType::q4_k, path_);
  ASSERT_FALSE(wide);
  EXPECT_EQ(wide.error().code, Errc::invalid_argument);
  EXPECT_FALSE(std::filesystem::exists(path_));
  EXPECT_FALSE(write_random_model(random_model_config("tiny").value(), DType::q8_0,
                                  "/nonexistent/directory/model.gguf"));
}

TEST(RandomModelShapes, AllAreSound) {
  for (const std::string_view name : random_model_shapes()) {
    const auto config = random_model_config(name);
    ASSERT_TRUE(config);
    EXPECT_TRUE(validate(*config, std::string(name)));
  }
}

}  // namespace
}  // namespace larder
