// A whole file as read-only memory.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "larder/result.h"

namespace larder {

/// Private, read-only mapping; pages are read when first touched. Move-only; thread-safe to read.
/// As with every mapping, somebody cutting the file short while it is open kills the process on the
/// next touch of the lost pages; replace model files by renaming.
class MappedFile {
 public:
  /// Never waits for a pipe. Errors: not_found; invalid_argument (not a regular file, no
  /// permission, more than can be mapped); io.
  static Result<MappedFile> open(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  /// Tells the kernel that [first, first + n) will not be needed soon; the bytes stay valid.
  void forget(std::size_t first, std::size_t n) const noexcept;

 private:
  MappedFile(const std::byte* data, std::size_t size) : data_(data), size_(size) {}
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace larder
