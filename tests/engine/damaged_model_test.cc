// Weights that are no numbers are refused: at load where they are cheap to see, else at the first
// step.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <memory>
#include <string>

#include "larder/engine.h"
#include "model/io/model_source.h"

namespace larder {
namespace {

using testing::HasSubstr;

/// The embedded model with one float of one tensor replaced, or with another layer count.
class Damaged : public ModelSource {
 public:
  Damaged(std::unique_ptr<ModelSource> source, std::string tensor, float value)
      : source_(std::move(source)), config_(source_->config()), tensor_(std::move(tensor)) {
    if (tensor_.empty()) return;
    const TensorView view = *source_->find(tensor_);
    bytes_.assign(view.bytes.begin(), view.bytes.end());
    std::memcpy(bytes_.data() + 5 * sizeof(float), &value, sizeof value);
  }
  ModelConfig& mutable_config() { return config_; }

  const std::string& path() const override { return source_->path(); }
  const ModelConfig& config() const override { return config_; }
  const TokenizerData& tokenizer() const override { return source_->tokenizer(); }
  const GenerationDefaults& generation_defaults() const override {
    return source_->generation_defaults();
  }
  std::optional<TensorView> find(std::string_view name) const override {
    auto view = source_->find(name);
    if (view && name == tensor_) view->bytes = bytes_;
    return view;
  }
  std::vector<std::string> tensor_names() const override { return source_->tensor_names(); }
  std::string weights_description() const override { return source_->weights_description(); }
  std::uint64_t weights_bytes() const override { return source_->weights_bytes(); }

 private:
  std::unique_ptr<ModelSource> source_;
  ModelConfig config_;
  std::string tensor_;
  std::vector<std::byte> bytes_;
};

std::unique_ptr<Damaged> damaged(const std::string& tensor, float value) {
  auto source = open_model(std::string(LARDER_MODELS_DIR) + "/stories260K.gguf");
  EXPECT_TRUE(source);
  return std::make_unique<Damaged>(std::move(*source), tensor, value);
}

EngineOptions options() {
  EngineOptions o;
  o.n_context = 64;
  o.n_threads = 1;
  return o;
}

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(DamagedModel, NormsAreCheckedAtLoad) {
  const auto engine = Engine::open(damaged("blk.3.ffn_norm.weight", kNan), options());
  ASSERT_FALSE(engine);
  EXPECT_EQ(engine.error().code, Errc::corrupt);
  EXPECT_THAT(engine.error().message,
              HasSubstr("stories260K.gguf: tensor 'blk.3.ffn_norm.weight' holds nan at index 5"));
}

TEST(DamagedModel, AStepWithoutNumbersFailsAndDropsItsRequests) {
  for (const float value : {kNan, std::numeric_limits<float>::infinity()}) {
    auto engine = Engine::open(damaged("blk.2.attn_q.weight", value), options());
    ASSERT_TRUE(engine) << engine.error().message;
    Request request;
    request.prompt = {1, 300, 301};
    ASSERT_TRUE((*engine)->submit(request));
    const auto report = (*engine)->step();
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().code, Errc::corrupt);
    EXPECT_THAT(report.error().message, HasSubstr("stories260K.gguf"));
    EXPECT_TRUE((*engine)->idle());
    EXPECT_EQ((*engine)->stats().kv_bytes, 0U);
  }
}

TEST(DamagedModel, ALayerCountThatLiesIsRefused) {
  auto source = damaged("", 0);
  source->mutable_config().n_layers = 2;
  const auto engine = Engine::open(std::move(source), options());
  ASSERT_FALSE(engine);
  EXPECT_THAT(engine.error().message, HasSubstr("past the 2 that are announced"));
}

}  // namespace
}  // namespace larder
