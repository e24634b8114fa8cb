// GGUF files written by hand, field by field, so that tests can lie in any of them.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <string_view>

#include "model/io/gguf.h"

namespace larder {

class GgufBuilder {
 public:
  template <class T>
  GgufBuilder& raw(T value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  GgufBuilder& text(std::string_view s) {
    raw(std::uint64_t{s.size()});
    bytes += s;
    return *this;
  }
  GgufBuilder& head(std::uint64_t n_tensors, std::uint64_t n_entries, std::uint32_t version = 3) {
    bytes += "GGUF";
    return raw(version).raw(n_tensors).raw(n_entries);
  }
  GgufBuilder& key(std::string_view name, GgufType type) {
    return text(name).raw(static_cast<std::uint32_t>(type));
  }
  GgufBuilder& array(std::string_view name, GgufType element, std::uint64_t n) {
    return key(name, GgufType::array).raw(static_cast<std::uint32_t>(element)).raw(n);
  }
  struct Tensor {
    std::string_view name = "a.weight";
    std::uint32_t n_dims = 2;
    std::uint64_t dims[2] = {4, 2};  // innermost first
    std::uint32_t type = 0;
    std::uint64_t offset = 0;
  };
  GgufBuilder& tensor(const Tensor& t) {
    text(t.name).raw(t.n_dims);
    for (std::uint32_t i = 0; i < t.n_dims && i < 2; ++i) raw(t.dims[i]);
    return raw(t.type).raw(t.offset);
  }
  GgufBuilder& data(std::size_t n_bytes, std::size_t alignment = 32) {
    bytes.resize((bytes.size() + alignment - 1) / alignment * alignment);
    bytes.append(n_bytes, '\1');
    return *this;
  }
  std::span<const std::byte> view() const {
    return {reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()};
  }
  /// The message of the error; empty when the bytes are accepted.
  std::string error() const {
    const auto file = GgufFile::parse(view(), "x.gguf");
    return file ? "" : file.error().message;
  }

  std::string bytes;
};

/// A file name that no other test uses, removed at the end.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& name)
      : path_((std::filesystem::temp_directory_path() /
               ("larder_" + std::to_string(::getpid()) + "_" + name))
                  .string()) {}
  ~TemporaryFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const std::string& path() const { return path_; }
  void write(std::string_view bytes) const { std::ofstream(path_, std::ios::binary) << bytes; }
  std::string read() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

 private:
  std::string path_;
};

}  // namespace larder
