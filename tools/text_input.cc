#include "text_input.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "base/fail.h"

namespace larder {
namespace {

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
  const auto close = [](std::FILE* file) { std::fclose(file); };
  const std::unique_ptr<std::FILE, decltype(close)> file(std::fopen(path.c_str(), "rb"), close);
  if (!file) return fail(Errc::not_found, "{}: {}", path, std::strerror(errno));
  return read_all(file.get(), path, max_bytes);
}

Result<std::string> read_stdin(std::uint64_t max_bytes) {
  return read_all(stdin, "standard input", max_bytes);
}

}  // namespace larder
