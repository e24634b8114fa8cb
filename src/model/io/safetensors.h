// The safetensors container: a JSON directory, then the bytes of each tensor.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "larder/result.h"
#include "tensor/view.h"

namespace larder {

struct SafetensorsTensor {
  std::string name;
  std::string dtype;               // as the file says: "F32", "BF16", "I64", ...
  std::optional<TensorView> view;  // empty: of a type other than F32, F16, BF16, or beyond 4 dims
};

/// A mapped file. Immutable; thread-safe. Views live as long as it and are aligned to their
/// elements; tensors that the file does not align (old writers) are copied.
class SafetensorsFile {
 public:
  /// Checks every length, shape and offset against the file's size, and that no two tensors
  /// overlap. Memory is bounded by the header, which may have 100 MB and 262,144 tensors. Errors:
  /// not_found, io, corrupt (naming tensor, field and value).
  static Result<std::unique_ptr<SafetensorsFile>> open(const std::string& path);
  /// The same over bytes that outlive the object (fuzzing, tests).
  static Result<std::unique_ptr<SafetensorsFile>> parse(std::span<const std::byte> bytes,
                                                        std::string origin);
  ~SafetensorsFile();

  const std::string& origin() const noexcept;
  std::span<const SafetensorsTensor> tensors() const noexcept;  // by offset
  /// Hint that these bytes, if they are this file's, will not be needed soon.
  void forget(const TensorView& view) const noexcept;

 private:
  struct Impl;
  explicit SafetensorsFile(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace larder
