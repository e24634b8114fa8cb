#include "model/io/output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/fail.h"
#include "model/io/open_error.h"

namespace larder {
namespace {

namespace fs = std::filesystem;

/// The path that `path` leads to when it is a symbolic link, be there a file or not.
fs::path behind_links(fs::path path) {
  constexpr int kMaxLinks = 40;  // as the kernel follows; its own check comes before this
  std::error_code error;
  for (int i = 0; i < kMaxLinks && fs::is_symlink(fs::symlink_status(path, error)); ++i) {
    const fs::path next = fs::read_symlink(path, error);
    if (error) break;
    path = next.is_absolute() ? next : path.parent_path() / next;
  }
  return path;
}

/// Nothing, or a regular file, may be where the output goes: a device or a pipe would be replaced.
Result<void> check_target(const std::string& path) {
  if (path.empty()) return fail(Errc::invalid_argument, "the path of the output is empty");
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found || fs::is_regular_file(status)) return {};
  if (status.type() == fs::file_type::none) {
    return fail(errc_of_open(error.value()), "{}: cannot be written: {}", path, error.message());
  }
  return fail(Errc::invalid_argument, "{}: is {}, the output is a file", path,
              fs::is_directory(status) ? "a directory" : "a device or a pipe");
}

/// Opens a new file beside the target; the number is there for names that a killed run has left.
int open_part(const std::string& target, std::string& part_path) {
  constexpr int kMaxTries = 1000;
  int descriptor = -1;
  for (int i = 0; i < kMaxTries; ++i) {
    part_path = fmt::format("{}.{}-{}.part", target, ::getpid(), i);
    descriptor = ::open(part_path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor >= 0 || errno != EEXIST) break;
  }
  return descriptor;
}

}  // namespace

Result<OutputFile> OutputFile::create(const std::string& path) {
  LARDER_TRY(check_target(path));
  OutputFile out;
  out.path_ = path;
  out.target_ = behind_links(path).string();
  const int descriptor = open_part(out.target_, out.part_path_);
  if (descriptor < 0) {
    const int error = errno;
    return fail(errc_of_open(error), "{}: cannot be written: {}", path, std::strerror(error));
  }
  out.file_ = ::fdopen(descriptor, "wb");
  if (out.file_ == nullptr) {
    const int error = errno;
    ::close(descriptor);
    std::remove(out.part_path_.c_str());
    return fail(Errc::io, "{}: cannot be written: {}", path, std::strerror(error));
  }
  return out;
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      target_(std::move(other.target_)),
      part_path_(std::move(other.part_path_)),
      file_(std::exchange(other.file_, nullptr)) {}

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(target_, other.target_);
  std::swap(part_path_, other.part_path_);
  std::swap(file_, other.file_);
  return *this;
}

OutputFile::~OutputFile() {
  if (file_ == nullptr) return;
  std::fclose(file_);
  std::remove(part_path_.c_str());
}

Result<void> OutputFile::write(const void* data, std::size_t n) {
  if (n != 0 && std::fwrite(data, 1, n, file_) != n) {
    return fail(Errc::io, "{}: cannot write {} bytes: {}", path_, n, std::strerror(errno));
  }
  return {};
}

Result<void> OutputFile::finish() {
  if (std::fflush(file_) != 0) {
    return fail(Errc::io, "{}: cannot write: {}", path_, std::strerror(errno));
  }
  std::error_code error;
  // Network file systems report a full disk no earlier than here.
  if (std::fclose(std::exchange(file_, nullptr)) != 0) {
    error.assign(errno, std::generic_category());
  } else {
    fs::rename(part_path_, target_, error);
  }
  if (!error) return {};
  std::remove(part_path_.c_str());
  return fail(Errc::io, "{}: cannot write: {}", path_, error.message());
}

Result<void> write_file(const std::string& path, std::string_view text) {
  LARDER_ASSIGN(OutputFile file, OutputFile::create(path));
  LARDER_TRY(file.write(text.data(), text.size()));
  return file.finish();
}

Result<void> check_output_files(std::initializer_list<std::string_view> paths) {
  for (const std::string_view path : paths) {
    if (!path.empty()) LARDER_TRY(OutputFile::create(std::string(path)));
  }
  return {};
}

}  // namespace larder
