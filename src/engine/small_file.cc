#include "engine/small_file.h"

#include <sys/stat.h>

#include <cstdint>
#include <fstream>

#include "base/fail.h"

namespace larder {

Result<std::string> read_small_file(std::string_view field, const std::string& path,
                                    std::size_t max_bytes) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) {
    return fail(Errc::not_found, "{}: cannot read '{}'", field, path);
  }
  if (!S_ISREG(status.st_mode) || static_cast<std::uint64_t>(status.st_size) > max_bytes) {
    return fail(Errc::invalid_argument, "{}: '{}' is no file of at most {} bytes", field, path,
                max_bytes);
  }
  std::ifstream in(path, std::ios::binary);
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad() || !in.is_open()) {
    return fail(Errc::io, "{}: cannot read '{}'", field, path);
  }
  text.resize(static_cast<std::size_t>(in.gcount()));
  return text;
}

}  // namespace larder
