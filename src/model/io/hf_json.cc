#include "model/io/hf_json.h"

#include <nlohmann/json.hpp>
#include <set>

#include "base/fail.h"
#include "model/io/gguf_cursor.h"
#include "model/io/mapped_file.h"

namespace larder {
namespace {

constexpr std::size_t kMaxIndexBytes = 64U << 20;
constexpr std::size_t kMaxShards = 4096;

Result<MappedFile> open_small(const std::string& path, std::size_t max_bytes) {
  LARDER_ASSIGN(auto file, MappedFile::open(path));
  if (file.bytes().size() > max_bytes) {
    return fail(Errc::corrupt, "{}: {} bytes are too many, the limit is {}", path,
                file.bytes().size(), max_bytes);
  }
  return file;
}

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

/// Listens for the place where the syntax breaks.
class SyntaxError final : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::size_t position = 0;  // counted from 1

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool key(string_t&) override { return true; }
  bool start_object(std::size_t) override { return true; }
  bool start_array(std::size_t) override { return true; }
  bool end_object() override { return true; }
  bool end_array() override { return true; }
  bool parse_error(std::size_t at, const std::string&,
                   const nlohmann::detail::exception&) override {
    position = at;
    return false;
  }
};

/// REQUIRES: the text is no JSON.
std::size_t first_bad_byte(std::string_view text) {
  SyntaxError error;
  nlohmann::json::sax_parse(text.begin(), text.end(), &error);
  return error.position;
}

/// Collects the values of root.weight_map and passes over everything else.
class ShardNames final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit ShardNames(const std::string& path) : path_(path) {}

  const std::string& message() const noexcept { return message_; }
  const std::set<std::string>& names() const noexcept { return names_; }

  bool null() override { return other(); }
  bool boolean(bool) override { return other(); }
  bool number_integer(number_integer_t) override { return other(); }
  bool number_unsigned(number_unsigned_t) override { return other(); }
  bool number_float(number_float_t, const string_t&) override { return other(); }
  bool binary(binary_t&) override { return other(); }
  bool string(string_t& text) override {
    if (!in_map_ || depth_ != 2) return true;
    if (text.empty() || text.size() > 255 || text.find('/') != std::string::npos ||
        text.find('\0') != std::string::npos || text.starts_with('.')) {
      return error(fmt::format("weight_map names the file '{}'", printable(text)));
    }
    names_.insert(text);
    if (names_.size() <= kMaxShards) return true;
    return error(fmt::format("weight_map names more than {} files", kMaxShards));
  }
  bool key(string_t& text) override {
    if (depth_ == 1) in_map_ = text == "weight_map";
    return true;
  }
  bool start_object(std::size_t) override { return enter(); }
  bool start_array(std::size_t) override { return enter(); }
  bool end_object() override { return leave(); }
  bool end_array() override { return leave(); }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    return error(fmt::format("not JSON at byte {}", position));
  }

 private:
  bool other() {
    return !in_map_ || depth_ != 2 || error("weight_map has a value that is not a file name");
  }
  bool enter() {
    ++depth_;
    return true;
  }
  bool leave() {
    --depth_;
    return true;
  }
  bool error(std::string_view what) {
    message_ = fmt::format("{}: {}", path_, what);
    return false;
  }

  const std::string& path_;
  std::string message_;
  std::set<std::string> names_;
  std::size_t depth_ = 0;
  bool in_map_ = false;
};

}  // namespace

Result<void> read_json_object(const std::string& path, std::size_t max_bytes, nlohmann::json& out) {
  LARDER_ASSIGN(const auto file, open_small(path, max_bytes));
  const auto text = text_of(file);
  out = nlohmann::json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (out.is_discarded()) {
    return fail(Errc::corrupt, "{}: not a JSON object: byte {} cannot be understood", path,
                first_bad_byte(text));
  }
  if (out.is_object()) return {};
  return fail(Errc::corrupt, "{}: not a JSON object: the file holds one {}", path, out.type_name());
}

Result<std::vector<std::string>> read_shard_names(const std::string& index_path) {
  LARDER_ASSIGN(const auto file, open_small(index_path, kMaxIndexBytes));
  const auto text = text_of(file);
  ShardNames handler(index_path);
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &handler)) {
    return fail(Errc::corrupt, "{}", handler.message());
  }
  if (handler.names().empty()) {
    return fail(Errc::corrupt, "{}: field 'weight_map' names no file", index_path);
  }
  return std::vector<std::string>(handler.names().begin(), handler.names().end());
}

}  // namespace larder
