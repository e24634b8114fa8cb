// A file that appears whole or not at all.
#pragma once

#include <cstddef>
#include <cstdio>
#include <initializer_list>
#include <string>
#include <string_view>

#include "larder/result.h"

namespace larder {

/// Written front to back under a name of its own beside the target, which it replaces at the end: a
/// broken run leaves no half file, and two runs with one target do not mix their bytes. Messages
/// name the path that was asked for. Move-only; not thread-safe.
class OutputFile {
 public:
  /// A symbolic link stays, what it points to is replaced; nothing but a regular file ever is.
  /// Errors: not_found (the directory), invalid_argument (a directory, device or pipe;
  /// permissions), io.
  static Result<OutputFile> create(const std::string& path);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;
  ~OutputFile();  // removes what was written unless `finish` succeeded

  Result<void> write(const void* data, std::size_t n);
  /// Puts the file in its place. Call once, last. Errors: io.
  Result<void> finish();

 private:
  OutputFile() = default;
  std::string path_;    // as the user wrote it
  std::string target_;  // behind symbolic links
  std::string part_path_;
  std::FILE* file_ = nullptr;
};

/// A whole text in one go. Errors: those of OutputFile.
Result<void> write_file(const std::string& path, std::string_view text);

/// Before work that ends in `write_file`: whether it could begin now. Empty paths are for nothing,
/// and pass. Leaves no file. Errors: those of OutputFile::create.
Result<void> check_output_files(std::initializer_list<std::string_view> paths);

}  // namespace larder
