#include "layer_formats_file.h"

#include <algorithm>
#include <sstream>

#include "base/fail.h"
#include "text_input.h"

namespace larder {
namespace {

constexpr std::uint64_t kMaxFileBytes = 1 << 20;
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

}  // namespace

Result<std::string> read_layer_formats(std::string_view text) {
  if (text.empty() || text.front() != '@') return std::string(text);
  const std::string path(text.substr(1));
  if (path.empty()) return fail(Errc::invalid_argument, "behind @ stands no name of a file");
  LARDER_ASSIGN(const std::string content, read_text_file(path, kMaxFileBytes));
  if (content.find('\0') != std::string::npos) {
    return fail(Errc::invalid_argument, "{} is no text: it has NUL bytes", path);
  }
  std::string entries;
  std::istringstream lines(
      content.starts_with(kByteOrderMark) ? content.substr(kByteOrderMark.size()) : content);
  for (std::string line; std::getline(lines, line);) {
    line.erase(std::min(line.find('#'), line.size()));
    std::replace(line.begin(), line.end(), ',', ' ');
    std::istringstream words(line);
    for (std::string entry; words >> entry;) entries += (entries.empty() ? "" : ",") + entry;
  }
  if (entries.empty()) {
    return fail(Errc::invalid_argument, "{} names no layers: lines like 0-1:bf16 or 2-:rot4/int4",
                path);
  }
  return entries;
}

}  // namespace larder
