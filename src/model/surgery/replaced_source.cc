#include "model/surgery/replaced_source.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/fail.h"
#include "model/io/quantize_file.h"
#include "tensor/quantize.h"

namespace larder {
namespace {

constexpr double kLargestF16 = 65520.0;

}  // namespace

ReplacedSource::ReplacedSource(std::unique_ptr<ModelSource> base, ModelConfig config)
    : base_(std::move(base)), config_(std::move(config)), names_(base_->tensor_names()) {}

Result<void> ReplacedSource::put(const std::string& name, TensorView shape,
                                 std::span<const double> values) {
  const std::size_t n_cols = shape.n_cols(), n_rows = shape.n_rows();
  const std::size_t stride = row_bytes(shape.dtype, n_cols);
  const double limit = shape.dtype == DType::f16
                           ? kLargestF16
                           : static_cast<double>(std::numeric_limits<float>::max());
  Tensor tensor{shape, Buffer<std::byte>(n_rows * stride)};
  std::vector<float> row(n_cols);
  for (std::size_t r = 0; r < n_rows; ++r) {
    for (std::size_t c = 0; c < n_cols; ++c) {
      const double x = values[r * n_cols + c];
      if (!(std::abs(x) < limit)) {
        return fail(std::isfinite(x) ? Errc::invalid_argument : Errc::corrupt,
                    "{}: the new tensor '{}' holds {} in row {}, which {} cannot hold", path(),
                    name, x, r, dtype_info(shape.dtype).name);
      }
      row[c] = static_cast<float>(x);
    }
    encode_row(shape.dtype, row.data(), n_cols, tensor.bytes.data() + r * stride);
  }
  tensor.view.bytes = tensor.bytes.span();
  replaced_.insert_or_assign(name, std::move(tensor));
  if (std::find(names_.begin(), names_.end(), name) == names_.end()) names_.push_back(name);
  return {};
}

Result<void> ReplacedSource::put_matrix(const std::string& name, const Matrix& values,
                                        DType dtype) {
  TensorView shape;
  shape.dtype = fitting_type(dtype, values.cols);
  shape.n_dims = 2;
  shape.shape = {values.rows, values.cols, 0, 0};
  return put(name, shape, values.values);
}

Result<void> ReplacedSource::put_vector(const std::string& name, std::span<const double> values) {
  TensorView shape;
  shape.n_dims = 1;
  shape.shape = {values.size(), 0, 0, 0};
  return put(name, shape, values);
}

void ReplacedSource::remove(const std::string& name) {
  replaced_.erase(name);
  std::erase(names_, name);
}

std::optional<TensorView> ReplacedSource::find(std::string_view canonical_name) const {
  if (const auto it = replaced_.find(canonical_name); it != replaced_.end()) {
    return it->second.view;
  }
  if (std::find(names_.begin(), names_.end(), canonical_name) == names_.end()) return std::nullopt;
  return base_->find(canonical_name);
}

std::uint64_t ReplacedSource::weights_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& name : names_) bytes += find(name)->bytes.size();
  return bytes;
}

}  // namespace larder
