// A model with some of its tensors and its configuration replaced.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "larder/result.h"
#include "model/io/model_source.h"
#include "model/surgery/matrix.h"
#include "tensor/buffer.h"

namespace larder {

/// Everything that was not replaced or removed is the base's. Filled once, then immutable and
/// thread-safe. Owns the new tensors, encoded.
class ReplacedSource final : public ModelSource {
 public:
  ReplacedSource(std::unique_ptr<ModelSource> base, ModelConfig config);

  /// Encodes `values` as `dtype`, or as a larger type where its rows are no whole blocks of it.
  /// Errors: corrupt for a value that is not finite, invalid_argument for one beyond f16 where that
  /// is the type.
  Result<void> put_matrix(const std::string& name, const Matrix& values, DType dtype);
  /// One dimension, f32. Errors: as above.
  Result<void> put_vector(const std::string& name, std::span<const double> values);
  void remove(const std::string& name);
  /// See keeps_type.
  void pin_type(const std::string& name) { pinned_.insert(name); }

  const ModelSource& base() const noexcept { return *base_; }
  const std::string& path() const override { return base_->path(); }
  const ModelConfig& config() const override { return config_; }
  const TokenizerData& tokenizer() const override { return base_->tokenizer(); }
  const GenerationDefaults& generation_defaults() const override {
    return base_->generation_defaults();
  }
  std::optional<TensorView> find(std::string_view canonical_name) const override;
  /// The base's order, new tensors behind.
  std::vector<std::string> tensor_names() const override { return names_; }
  std::string shown_name(std::string_view canonical_name) const override {
    return base_->shown_name(canonical_name);
  }
  std::string weights_description() const override { return base_->weights_description(); }
  std::uint64_t weights_bytes() const override;
  float norm_weight_offset() const override { return base_->norm_weight_offset(); }
  bool keeps_type(std::string_view canonical_name) const override {
    return pinned_.contains(canonical_name);
  }

 private:
  struct Tensor {
    TensorView view;
    Buffer<std::byte> bytes;
  };
  Result<void> put(const std::string& name, TensorView shape, std::span<const double> values);

  std::unique_ptr<ModelSource> base_;
  ModelConfig config_;
  std::map<std::string, Tensor, std::less<>> replaced_;
  std::vector<std::string> names_;
  std::set<std::string, std::less<>> pinned_;
};

}  // namespace larder
