#include "model/io/safetensors_header.h"

#include <nlohmann/json.hpp>

#include "base/fail.h"
#include "model/io/gguf_cursor.h"

namespace larder {
namespace {

constexpr std::size_t kMaxTensors = 262144;
constexpr std::size_t kMaxDims = 8;

/// Root object > one object per tensor > its arrays. "__metadata__" is passed over.
class Handler final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Handler(const std::string& origin) : origin_(origin) {}

  const std::string& message() const noexcept { return message_; }
  std::vector<SafetensorsEntry> take() noexcept { return std::move(entries_); }

  bool null() override { return value("null"); }
  bool boolean(bool) override { return value("true or false"); }
  bool number_integer(number_integer_t) override { return value("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return value("a fraction"); }
  bool binary(binary_t&) override { return value("binary"); }

  bool number_unsigned(number_unsigned_t number) override {
    if (skipping()) return true;
    if (depth_ != 3) return value("a number");
    if (field_ == Field::shape) {
      if (entries_.back().shape.size() == kMaxDims) {
        return error("tensor '{}' has more than {} dimensions", name(), kMaxDims);
      }
      entries_.back().shape.push_back(number);
      return true;
    }
    if (n_offsets_ == 2) return error("tensor '{}' has more than two data_offsets", name());
    entries_.back().offsets[n_offsets_++] = number;
    return true;
  }

  bool string(string_t& text) override {
    if (skipping()) return true;
    if (depth_ != 2 || field_ != Field::dtype) return value("a string");
    entries_.back().dtype = text;
    return true;
  }

  bool key(string_t& text) override {
    if (skipping()) return true;
    if (depth_ == 1) {
      if (text == "__metadata__") {
        skip_from_ = 1;
        return true;
      }
      if (entries_.size() == kMaxTensors)
        return error("there are more than {} tensors", kMaxTensors);
      entries_.push_back({text, {}, {}, {}});
      seen_ = 0;
      n_offsets_ = 0;
      return true;
    }
    field_ = text == "dtype"          ? Field::dtype
             : text == "shape"        ? Field::shape
             : text == "data_offsets" ? Field::offsets
                                      : Field::none;
    const unsigned bit = 1U << static_cast<unsigned>(field_);
    if (field_ == Field::none || (seen_ & bit) != 0) {
      return error("tensor '{}' has field '{}' {}", name(), printable(text),
                   field_ == Field::none ? "that is unknown" : "twice");
    }
    seen_ |= bit;
    return true;
  }

  bool start_object(std::size_t) override {
    ++depth_;
    if (skipping() || depth_ <= 2) return true;
    return value("an object");
  }
  bool end_object() override {
    --depth_;
    if (skip_from_ != 0) {
      if (depth_ == skip_from_) skip_from_ = 0;
      return true;
    }
    constexpr unsigned kAll = 0b111;
    if (depth_ == 1 && (seen_ != kAll || n_offsets_ != 2)) {
      return error("tensor '{}' lacks one of dtype, shape and data_offsets", name());
    }
    return true;
  }
  bool start_array(std::size_t) override {
    ++depth_;
    if (skipping()) return true;
    if (depth_ == 3 && (field_ == Field::shape || field_ == Field::offsets)) return true;
    return value("an array");
  }
  bool end_array() override {
    --depth_;
    if (skip_from_ != 0 && depth_ == skip_from_) skip_from_ = 0;
    return true;
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    return error("the header is not JSON at byte {}", position);
  }

 private:
  enum class Field : unsigned { dtype, shape, offsets, none };

  /// Inside "__metadata__" (a plain value there ends the skipping at once).
  bool skipping() noexcept {
    if (skip_from_ == 0) return false;
    if (depth_ == skip_from_) skip_from_ = 0;
    return true;
  }
  std::string name() const { return entries_.empty() ? "" : printable(entries_.back().name); }
  bool value(std::string_view what) {
    if (skipping()) return true;
    return error("tensor '{}' has {} where the header's form forbids it", name(), what);
  }
  template <class... Args>
  bool error(fmt::format_string<Args...> format, Args&&... args) {
    message_ = origin_ + ": " + fmt::format(format, std::forward<Args>(args)...);
    return false;
  }

  const std::string& origin_;
  std::string message_;
  std::vector<SafetensorsEntry> entries_;
  std::size_t depth_ = 0;
  std::size_t skip_from_ = 0;  // depth of the object whose member is passed over; 0: none is
  Field field_ = Field::none;
  unsigned seen_ = 0;  // bit per Field
  std::size_t n_offsets_ = 0;
};

}  // namespace

Result<std::vector<SafetensorsEntry>> parse_safetensors_header(std::string_view json,
                                                               const std::string& origin) {
  if (!json.starts_with('{')) return fail(Errc::corrupt, "{}: the header is not an object", origin);
  Handler handler(origin);
  if (!nlohmann::json::sax_parse(json.begin(), json.end(), &handler)) {
    return fail(Errc::corrupt, "{}", handler.message());
  }
  return handler.take();
}

}  // namespace larder
