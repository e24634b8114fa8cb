// Hugging Face directories and llama2.c checkpoints to GGUF.
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

struct ConvertOptions {
  std::string input;          // Hugging Face directory or llama2.c .bin
  std::string output;         // GGUF file; replaced when it exists
  std::optional<DType> type;  // of matrices; empty: what each has in the input
  std::string tokenizer;      // llama2.c's tok*.bin; empty: none
  std::string name, license;  // general.name and general.license; empty: what the input says
  unsigned n_threads = 1;
};

/// A matrix whose rows are no multiple of the wanted type's block.
struct ConvertFallback {
  std::string tensor;
  DType type;
};

struct ConvertReport {
  std::string arch;
  DType type = DType::f32;  // of the matrices, where rows allow
  std::uint32_t n_tensors = 0;
  std::uint64_t n_weights = 0;     // elements of all tensors
  std::uint64_t weight_bytes = 0;  // of the tensors written
  std::vector<ConvertFallback> fallbacks;
  std::vector<std::string> warnings;  // what other readers of the file will stumble over
};

/// Hears of each tensor before it is written, with the part that is done, 0..1; at last of "", 1.
using ConvertProgress = std::function<void(std::string_view tensor, float done)>;

/// Writes matrices as `type`, norms and biases as f32. Changes what GGUF holds differently: rows of
/// q and k of the llama architecture go from halves to adjacent pairs, Gemma's norms become the
/// weight itself, rope factors become tensors, the vocabulary is padded to the embedding's rows,
/// the matrices of experts are stacked, and that behind a latent is cut in two (regroup.h). Routers
/// of experts are written as f32. The same input and options give the same bytes. Memory: some rows
/// at a time. Errors: not_found, io, corrupt, unsupported, invalid_argument (a GGUF file as input).
Result<ConvertReport> convert_model(const ConvertOptions& options,
                                    const ConvertProgress& progress = {});

}  // namespace larder
