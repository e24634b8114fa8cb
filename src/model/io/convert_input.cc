#include "model/io/convert_input.h"

#include <array>
#include <filesystem>
#include <fstream>
#include <utility>

#include "base/fail.h"
#include "model/io/gguf_source.h"
#include "model/io/hf_source.h"
#include "model/io/llama2c_source.h"
#include "model/io/mapped_file.h"
#include "model/weights.h"

namespace larder {
namespace {

namespace fs = std::filesystem;

Result<std::unique_ptr<ModelSource>> open_input(const ConvertOptions& options) {
  std::error_code ignored;
  const bool is_directory = fs::is_directory(options.input, ignored);
  if (options.target == ConvertTarget::hf && !is_directory) {
    return fail(Errc::unsupported, "{}: a Hugging Face directory is written from another one only",
                options.input);
  }
  if (is_directory) {
    if (!options.tokenizer.empty()) {
      return fail(Errc::invalid_argument, "{}: a tokenizer file ({}) goes with llama2.c models",
                  options.input, options.tokenizer);
    }
    return open_hf_directory(options.input, {});
  }
  const auto path = fs::path(options.input);
  if (path.extension() == ".safetensors" || path.extension() == ".json") {
    return fail(Errc::invalid_argument, "{}: one file of a Hugging Face model; give its directory",
                options.input);
  }
  LARDER_ASSIGN(const auto file, MappedFile::open(options.input));
  if (!is_gguf_file(options.input)) return open_llama2c(options.input, options.tokenizer);
  if (!options.changes_attention()) {
    return fail(Errc::invalid_argument, "{}: a GGUF file already; `larder quantize` changes types",
                options.input);
  }
  return open_gguf(options.input, {});
}

/// Reading `output` while it is written would end both.
Result<void> check_paths(const ConvertOptions& options) {
  std::error_code ignored;
  if (!fs::equivalent(options.input, options.output, ignored)) return {};
  return fail(Errc::invalid_argument, "{}: input and output are the same", options.output);
}

}  // namespace

bool is_gguf_file(const std::string& path) {
  std::array<char, 4> magic{};
  std::ifstream file(path, std::ios::binary);
  return file.read(magic.data(), magic.size()) && magic == std::array{'G', 'G', 'U', 'F'};
}

Result<std::unique_ptr<ModelSource>> open_for_conversion(const ConvertOptions& options,
                                                         const ConvertProgress& progress) {
  LARDER_TRY(check_paths(options));
  LARDER_ASSIGN(auto source, open_input(options));
  // Presence and shape of every tensor, before anything is written.
  if (auto weights = Weights::load(*source); !weights) {
    return tl::unexpected<Error>(std::move(weights).error());
  }
  SurgerySettings settings{options.type, options.moments, {}};
  if (progress) {
    settings.progress = [&progress](float done) { progress("attention", done); };
  }
  if (options.pool) return pool_model(std::move(source), *options.pool, settings);
  if (options.latent) return latent_model(std::move(source), *options.latent, settings);
  return source;
}

}  // namespace larder
