// GGUF to GGUF with other weight types.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "larder/result.h"
#include "tensor/dtype.h"

namespace larder {

class GgufMetadata;
class GgufWriter;

struct QuantizeOptions {
  std::string input, output;
  DType type = DType::q8_0;  // of the weight matrices
  /// Of output.weight, or of token_embd.weight where the model ties them. By default q6_k (q8_0
  /// where rows are not whole blocks of 256) when `type` is smaller than that, because errors there
  /// reach the logits directly; else `type`.
  std::optional<DType> output_type;
  std::optional<DType> embedding_type;  // of token_embd.weight, tied or not
  bool pure = false;                    // `type` for output and embedding too
  bool allow_requantize =
      false;  // accept input that has lost precision already (all but f32, f16, bf16)
  unsigned n_threads = 1;
};

struct QuantizedTensor {
  std::string name;
  DType from, to;
  std::uint64_t n_elems, bytes_in, bytes_out;
  /// The type that was asked for, if rows are not whole blocks of it and `to` stands in.
  std::optional<DType> wanted;
};

struct QuantizeReport {
  std::vector<QuantizedTensor> tensors;                    // file order
  std::uint64_t bytes_in = 0, bytes_out = 0, n_elems = 0;  // of tensor data
  double bits_per_weight() const noexcept {
    return n_elems == 0 ? 0 : 8.0 * static_cast<double>(bytes_out) / static_cast<double>(n_elems);
  }
};

struct QuantizeProgress {
  const QuantizedTensor* tensor;  // being written
  std::size_t index, n_tensors;
  double fraction;  // of all bytes of input, 0..1
};

/// Matrices named "*.weight" change type; norms, biases, rope factors, routers of experts and
/// everything with one dimension stay as they are. Metadata is kept, general.file_type and
/// general.quantization_version are set. Memory: some rows at a time, whatever the tensors' sizes.
/// Errors: those of reading and writing; corrupt for values that are not finite, of
/// tensors that are copied too; invalid_argument
/// for values beyond f16 when that is the type, input that is quantised already, and output =
/// input; unsupported for one part of a split model.
Result<QuantizeReport> quantize_file(
    const QuantizeOptions& options,
    const std::function<void(const QuantizeProgress&)>& progress = {});

/// The value of general.file_type of a model whose matrices have this type.
std::uint32_t gguf_file_type(DType dtype) noexcept;

/// The type that stands in for `wanted` where rows have `n_cols` elements: the nearest one of no
/// fewer bits whose blocks fit, as llama.cpp chooses.
DType fitting_type(DType wanted, std::uint64_t n_cols) noexcept;

/// True for the matrix that chooses experts: it stays in floats, as llama.cpp keeps it.
bool is_router(std::string_view tensor_name) noexcept;

/// Writes every entry as it was read, except general.alignment (the writer has its own).
void copy_metadata(const GgufMetadata& metadata, GgufWriter& writer);

}  // namespace larder
