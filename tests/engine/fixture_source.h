// The tiny models of tests/data/models, which have no tokenizer, opened with one of as many tokens.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "larder/engine.h"
#include "model/io/model_source.h"

namespace larder {

/// A fixture, which has no tokenizer, with one of as many tokens as it needs.
class WithTokenizer : public ModelSource {
 public:
  explicit WithTokenizer(std::unique_ptr<ModelSource> source) : source_(std::move(source)) {
    tokenizer_.kind = TokenizerKind::sentencepiece;
    tokenizer_.unk = 0;
    for (std::uint32_t i = 0; i < config().n_vocab; ++i) {
      tokenizer_.tokens.push_back(std::string("t").append(std::to_string(i)));
      tokenizer_.scores.push_back(0);
      tokenizer_.types.push_back(i == 0 ? TokenType::unknown : TokenType::normal);
    }
  }
  const std::string& path() const override { return source_->path(); }
  const ModelConfig& config() const override { return source_->config(); }
  const TokenizerData& tokenizer() const override { return tokenizer_; }
  const GenerationDefaults& generation_defaults() const override {
    return source_->generation_defaults();
  }
  std::optional<TensorView> find(std::string_view name) const override {
    return source_->find(name);
  }
  std::vector<std::string> tensor_names() const override { return source_->tensor_names(); }
  std::string weights_description() const override { return source_->weights_description(); }
  std::uint64_t weights_bytes() const override { return source_->weights_bytes(); }
  float norm_weight_offset() const override { return source_->norm_weight_offset(); }

 private:
  std::unique_ptr<ModelSource> source_;
  TokenizerData tokenizer_;
};

inline Result<std::unique_ptr<Engine>> open_fixture(const EngineOptions& options) {
  auto source = open_model(options.model_path);
  if (!source) return tl::unexpected<Error>(source.error());
  return Engine::open(std::make_unique<WithTokenizer>(std::move(*source)), options);
}

}  // namespace larder
