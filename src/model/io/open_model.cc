#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>

#include "base/fail.h"
#include "model/io/gguf_source.h"
#include "model/io/hf_source.h"
#include "model/io/mapped_file.h"
#include "model/io/model_source.h"

namespace larder {
namespace {

namespace fs = std::filesystem;

bool looks_like_hf(const fs::path& path, const OpenOptions& options) {
  std::error_code ignored;
  if (fs::exists(path / "config.json", ignored)) return true;
  return options.vocab_only && (fs::exists(path / "tokenizer.json", ignored) ||
                                fs::exists(path / "tokenizer.model", ignored));
}

}  // namespace

Result<std::unique_ptr<ModelSource>> open_model(const std::string& path,
                                                const OpenOptions& options) {
  std::error_code error;
  const auto status = fs::status(path, error);
  if (!fs::exists(status)) return fail(Errc::not_found, "{}: no such file or directory", path);
  if (fs::is_directory(status)) {
    if (looks_like_hf(path, options)) return open_hf_directory(path, options);
    return fail(Errc::not_found, "{}: the directory has no config.json", path);
  }
  std::array<char, 4> magic{};
  LARDER_ASSIGN(const auto file, MappedFile::open(path));
  if (file.bytes().empty()) return fail(Errc::corrupt, "{}: the file is empty", path);
  std::memcpy(magic.data(), file.bytes().data(), std::min(magic.size(), file.bytes().size()));
  constexpr std::array<char, 4> kLittle = {'G', 'G', 'U', 'F'};
  constexpr std::array<char, 4> kBig = {'F', 'U', 'G', 'G'};
  // The reader tells a big-endian file by name.
  if (magic == kLittle || magic == kBig) return open_gguf(path, options);
  if (fs::path(path).extension() == ".bin") {
    return fail(Errc::unsupported, "{}: not a GGUF file; `larder convert` reads llama2.c's .bin",
                path);
  }
  return fail(Errc::corrupt, "{}: not a GGUF file (it begins with {:02x} {:02x} {:02x} {:02x})",
              path, static_cast<unsigned char>(magic[0]), static_cast<unsigned char>(magic[1]),
              static_cast<unsigned char>(magic[2]), static_cast<unsigned char>(magic[3]));
}

}  // namespace larder
