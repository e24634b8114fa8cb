#include "model/io/hf_card.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace larder {

std::string read_hf_license(const std::string& directory) {
  constexpr std::size_t kMaxBytes =
      16384;  // the block is short; the prose after it need not be read
  constexpr std::size_t kMaxLicense = 100;
  const auto path = std::filesystem::path(directory) / "README.md";
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return {};  // a pipe would be waited for
  std::ifstream file(path, std::ios::binary);
  std::string text(kMaxBytes, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (!text.starts_with("---\n")) return {};
  text = text.substr(3, text.find("\n---", 3) - 3);
  const std::string_view key = "\nlicense:";
  const std::size_t at = text.find(key);
  if (at == std::string::npos) return {};
  std::string value = text.substr(at + key.size());
  value.resize(std::min(value.find('\n'), value.size()));
  std::erase_if(value, [](char c) { return c <= ' ' || c > '~' || c == '"' || c == '\''; });
  return value.size() <= kMaxLicense ? value : std::string();
}

}  // namespace larder
