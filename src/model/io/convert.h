// Hugging Face directories and llama2.c checkpoints to GGUF, and models with another attention.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "larder/result.h"
#include "model/surgery/latent_source.h"
#include "model/surgery/pooled_source.h"
#include "tensor/dtype.h"

namespace larder {

enum class ConvertTarget : std::uint8_t { gguf, hf };

struct ConvertOptions {
  std::string input;   // Hugging Face directory or llama2.c .bin; GGUF if the attention changes
  std::string output;  // GGUF file, replaced when it exists; or directory, new or empty
  ConvertTarget target = ConvertTarget::gguf;
  std::optional<DType> type;  // of matrices; empty: what each has in the input
  std::string tokenizer;      // llama2.c's tok*.bin; empty: none
  std::string name, license;  // general.name and general.license; empty: what the input says
  unsigned n_threads = 1;
  std::optional<PoolHeads> pool;          // fewer KV heads
  std::optional<ToLatent> latent;         // multi-head latent attention; not with `pool`
  const InputMoments* moments = nullptr;  // what attention inputs look like; null: assumed

  bool changes_attention() const { return pool || latent; }
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
/// at a time, and what a change of the attention takes (pool_model). A GGUF file keeps its other
/// metadata. A directory as the output needs one as the input: its tokenizer and other files are
/// copied, config.json is edited. Errors: not_found, io, corrupt, unsupported, invalid_argument (a
/// GGUF file as input that nothing changes).
Result<ConvertReport> convert_model(const ConvertOptions& options,
                                    const ConvertProgress& progress = {});

}  // namespace larder
