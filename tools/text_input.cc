#include "text_input.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "base/fail.h"

namespace larder {
namespace {

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

Result<File> open_text(const std::string& path) {
  File file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (!file) return fail(Errc::not_found, "{}: {}", path, std::strerror(errno));
  return file;
}

/// What can be said before the first byte is read.
Result<void> check(std::FILE* file, const std::string& origin, std::uint64_t max_bytes) {
  struct stat status {};
  if (fstat(fileno(file), &status) != 0) return {};  // reading will say why
  if (S_ISDIR(status.st_mode)) {
    return fail(Errc::invalid_argument, "{}: is a directory, a text file is wanted", origin);
  }
  if (S_ISREG(status.st_mode) && static_cast<std::uint64_t>(status.st_size) > max_bytes) {
    return fail(Errc::invalid_argument, "{}: has {} bytes, at most {} are accepted", origin,
                status.st_size, max_bytes);
  }
  return {};
}

Result<std::string> read_all(std::FILE* file, const std::string& origin, std::uint64_t max_bytes) {
  LARDER_TRY(check(file, origin, max_bytes));
  std::string text;
  char piece[1 << 16];
  while (const std::size_t n = std::fread(piece, 1, sizeof piece, file)) {
    if (text.size() + n > max_bytes) {
      return fail(Errc::invalid_argument, "{}: longer than the {} bytes that are accepted", origin,
                  max_bytes);
    }
    text.append(piece, n);
  }
  if (std::ferror(file) != 0) {
    const Errc code = errno == EBADF ? Errc::invalid_argument : Errc::io;  // closed, or write-only
    return fail(code, "{}: {}", origin, std::strerror(errno));
  }
  return text;
}

}  // namespace

Result<std::string> read_text_file(const std::string& path, std::uint64_t max_bytes) {
  LARDER_ASSIGN(const auto file, open_text(path));
  return read_all(file.get(), path, max_bytes);
}

Result<void> check_text_file(const std::string& path, std::uint64_t max_bytes) {
  struct stat status {};
  const bool known = stat(path.c_str(), &status) == 0;
  if (known && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) return {};
  LARDER_ASSIGN(const auto file, open_text(path));
  LARDER_TRY(check(file.get(), path, max_bytes));
  if (!known || status.st_size != 0) return {};
  return fail(Errc::invalid_argument, "{}: the text is empty", path);
}

Result<std::string> read_stdin(std::uint64_t max_bytes) {
  return read_all(stdin, "standard input", max_bytes);
}

}  // namespace larder
