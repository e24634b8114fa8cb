// One tensor on its way from a source's convention and type to GGUF's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "larder/result.h"
#include "model/arch/arch.h"
#include "tensor/view.h"

namespace larder {

struct TensorTarget {
  std::string name;  // for messages
  DType dtype = DType::f32;
  TensorChange change = TensorChange::none;
  std::uint32_t n_heads = 1;  // heads among the rows, for the permutations
};

/// Re-encodes tensors row by row over all threads; the result does not depend on their number.
/// Memory: a few million elements, whatever the tensor's size.
class TensorConverter {
 public:
  /// Takes the next rows of the result.
  using Sink = std::function<Result<void>(std::span<const std::byte>)>;

  /// `origin` names the input in messages. Both outlive the converter.
  TensorConverter(ThreadPool& pool, const std::string& origin) : pool_(pool), origin_(origin) {}

  /// REQUIRES: rows are whole blocks of both types; for a permutation, the rows (the elements of a
  /// bias) are a multiple of 2 * n_heads. Quantised rows that keep their type keep their bytes.
  /// Errors: corrupt for a value that is not finite, invalid_argument for one beyond f16 where that
  /// is the type, and those of `sink`.
  Result<void> convert(const TensorView& in, const TensorTarget& target, const Sink& sink);

 private:
  struct Rows;
  Result<void> convert_rows(const TensorView& in, const TensorTarget& target, const Rows& rows);

  ThreadPool& pool_;
  const std::string& origin_;
  std::vector<std::vector<float>> decoded_;  // [n_threads] one row each
  std::vector<std::byte> encoded_;
};

}  // namespace larder
