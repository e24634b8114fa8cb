#include "layer_formats_file.h"

#include <algorithm>
#include <sstream>

#include "base/fail.h"
#include "text_input.h"

namespace larder {
namespace {

constexpr std::uint64_t kMaxFileBytes = 1 << 20;

}  // namespace

Result<std::string> read_layer_formats(std::string_view text) {
  if (text.empty() || text.front() != '@') return std::string(text);
  const std::string path(text.substr(1));
  LARDER_ASSIGN(const std::string content, read_text_file(path, kMaxFileBytes));
  std::string entries;
  std::istringstream lines(content);
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
