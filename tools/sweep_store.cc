#include "sweep_store.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <utility>

#include "base/fail.h"
#include "text_input.h"

namespace larder {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::uint64_t kMaxBytes = 256ULL << 20;

bool is_cell(const Json& line) {
  return line.is_object() && line.contains("cell") && line["cell"].is_object() &&
         line.contains("result") && line["result"].is_object();
}

/// Names in the order of the alphabet, so that the order in which a cell was described is no part
/// of the key.
std::string key_of(const Json& cell) {
  return nlohmann::json(cell).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

Result<SweepStore> SweepStore::open(std::string path) {
  SweepStore store;
  store.path_ = std::move(path);
  if (store.path_.empty()) return store;
  std::FILE* const file = std::fopen(store.path_.c_str(), "ab");  // before anything is measured
  if (file == nullptr) {
    return fail(Errc::invalid_argument, "{}: {}", store.path_, std::strerror(errno));
  }
  std::fclose(file);
  LARDER_ASSIGN(const std::string text, read_text_file(store.path_, kMaxBytes));
  LARDER_TRY(store.read(text));
  return store;
}

Result<void> SweepStore::read(const std::string& text) {
  std::size_t n_lines = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    const bool is_cut = end == text.size();
    ++n_lines;
    const Json cell = Json::parse(line, nullptr, false);
    if (is_cell(cell)) {
      results_.insert_or_assign(key_of(cell["cell"]), cell["result"]);
      ends_line_ = !is_cut;
    } else if (is_cut) {  // the process ended while it wrote
      n_cut_bytes_ = line.size();
    } else if (!line.empty()) {
      return fail(Errc::invalid_argument, "{}: line {} is no cell of a sweep", path_, n_lines);
    }
    begin = end + 1;
  }
  n_bytes_ = text.size();
  return {};
}

const Json* SweepStore::find(const Json& cell) const {
  const auto it = results_.find(key_of(cell));
  return it == results_.end() ? nullptr : &it->second;
}

Result<void> SweepStore::add(const Json& cell, Json result) {
  if (!path_.empty()) {
    const Json line = {{"cell", cell}, {"result", result}};
    const std::string text =
        (ends_line_ ? "" : "\n") + line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    if (std::error_code error; n_cut_bytes_ != 0) {
      std::filesystem::resize_file(path_, n_bytes_ - std::exchange(n_cut_bytes_, 0), error);
      if (error) return fail(Errc::io, "{}: {}", path_, error.message());
    }
    std::FILE* file = std::fopen(path_.c_str(), "ab");
    if (file == nullptr) return fail(Errc::io, "{}: {}", path_, std::strerror(errno));
    const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
    if (std::fclose(file) != 0 || !written) {
      return fail(Errc::io, "{}: {}", path_, std::strerror(errno));
    }
    ends_line_ = true;
  }
  results_.insert_or_assign(key_of(cell), std::move(result));
  return {};
}

}  // namespace larder
