// A model file or directory of any supported kind, seen as one thing: config, tokenizer, tensors.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "larder/result.h"
#include "model/config.h"
#include "model/text/tokenizer_data.h"
#include "tensor/view.h"

namespace larder {

/// Suggested sampling from generation_config.json or GGUF's general.sampling.*; absent: unset.
struct GenerationDefaults {
  std::optional<float> temperature, top_p, min_p, repetition_penalty;
  std::optional<std::int32_t> top_k;
};

/// Tensors go by GGUF's canonical names (token_embd.weight, blk.N.attn_q.weight, output.weight,
/// ...) whatever the file kind; a Hugging Face directory is renamed on the fly. Views stay valid as
/// long as the source lives; the bytes are the mapped file's own. Immutable after opening;
/// thread-safe.
class ModelSource {
 public:
  virtual ~ModelSource() = default;
  virtual const std::string& path() const = 0;
  virtual const ModelConfig& config() const = 0;
  /// Empty vocabulary when the directory has no tokenizer (tests); see TokenizerData.
  virtual const TokenizerData& tokenizer() const = 0;
  virtual const GenerationDefaults& generation_defaults() const = 0;
  virtual std::optional<TensorView> find(std::string_view canonical_name) const = 0;
  virtual std::vector<std::string> tensor_names() const = 0;  // canonical, file order
  /// A tensor's name for messages: the file's own beside the canonical one where they differ.
  virtual std::string shown_name(std::string_view canonical_name) const {
    return std::string(canonical_name);
  }
  /// "Q4_K mixed", "F32", ...: for people.
  virtual std::string weights_description() const = 0;
  virtual std::uint64_t weights_bytes() const = 0;
  /// Hint that a tensor's bytes were read and will not be needed soon; they stay valid.
  virtual void forget(const TensorView&) const {}
  /// Hugging Face's RMS norms of Gemma store (weight - 1); GGUF files store the weight itself.
  virtual float norm_weight_offset() const { return 0; }
  /// A tensor whose values need the type it has: conversions leave that alone.
  virtual bool keeps_type(std::string_view /*canonical_name*/) const { return false; }
};

struct OpenOptions {
  bool vocab_only = false;  // accept files without tensors and hyper-parameters
};

/// Opens a GGUF file (by magic) or a Hugging Face directory (has config.json).
/// Errors: not_found, io, corrupt (with field and value), unsupported (architecture, tensor type).
Result<std::unique_ptr<ModelSource>> open_model(const std::string& path,
                                                const OpenOptions& options = {});

}  // namespace larder
