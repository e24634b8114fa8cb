#include "model/io/gguf_values.h"

#include <limits>

namespace larder {
namespace {

// Limits on what a header may make us allocate; the largest vocabularies have some 260 thousand
// tokens and 600 thousand merges.
constexpr std::uint64_t kMaxKeyBytes = 65535;         // the format's own limit
constexpr std::uint64_t kMaxTextBytes = 64ULL << 20;  // one string: chat templates take a few KB
constexpr std::uint64_t kMaxStrings = 4ULL << 20;     // strings of all arrays together
constexpr std::uint64_t kMaxNumbers = 16ULL << 20;    // numbers of all arrays together

struct Budget {
  std::uint64_t strings = kMaxStrings, numbers = kMaxNumbers;
};

struct Entry {
  std::string_view key;
  std::string field() const { return fmt::format("metadata key '{}'", printable(key)); }
};

template <class Wide, class T>
Result<GgufValue> scalar(GgufCursor& cursor, const Entry& entry) {
  T value{};
  if (!cursor.read(value)) return cursor.ends_in(entry.field());
  return GgufValue(static_cast<Wide>(value));
}

Result<GgufValue> boolean(GgufCursor& cursor, const Entry& entry) {
  std::uint8_t value = 0;
  if (!cursor.read(value)) return cursor.ends_in(entry.field());
  if (value > 1) {
    return fail(Errc::corrupt, "{}: {}: boolean with value {}", cursor.origin(), entry.field(),
                value);
  }
  return GgufValue(value == 1);
}

template <class Wide, class T>
Result<GgufValue> numbers(GgufCursor& cursor, const Entry& entry, std::uint64_t n) {
  std::vector<Wide> values;
  values.reserve(n);
  for (std::uint64_t i = 0; i < n; ++i) {
    T value{};
    if (!cursor.read(value)) return cursor.ends_in(entry.field());
    if constexpr (std::is_same_v<T, std::uint64_t>) {
      if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        return fail(Errc::unsupported, "{}: {}: element {} = {} exceeds 63 bits", cursor.origin(),
                    entry.field(), i, value);
      }
    }
    if constexpr (std::is_same_v<Wide, bool>) {
      if (value > 1) {
        return fail(Errc::corrupt, "{}: {}: element {} is a boolean with value {}", cursor.origin(),
                    entry.field(), i, value);
      }
    }
    values.push_back(static_cast<Wide>(value));
  }
  return GgufValue(std::move(values));
}

Result<GgufValue> strings(GgufCursor& cursor, const Entry& entry, std::uint64_t n) {
  std::vector<std::string> values;
  values.reserve(n);
  for (std::uint64_t i = 0; i < n; ++i) {
    auto text = cursor.text("", kMaxTextBytes);
    if (!text) {  // say it again with the name, which costs too much to make for each element
      return fail(text.error().code, "{}: element {} of {}: not a string within the file",
                  cursor.origin(), i, entry.field());
    }
    values.emplace_back(*text);
  }
  return GgufValue(std::move(values));
}

/// Fewest bytes an element can take; 0 for types that cannot be elements.
std::uint64_t min_element_bytes(GgufType type) noexcept {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8:
    case GgufType::boolean:
      return 1;
    case GgufType::u16:
    case GgufType::i16:
      return 2;
    case GgufType::u32:
    case GgufType::i32:
    case GgufType::f32:
      return 4;
    case GgufType::u64:
    case GgufType::i64:
    case GgufType::f64:
    case GgufType::string:
      return 8;
    case GgufType::array:
      return 0;
  }
  return 0;
}

Result<GgufValue> elements(GgufCursor& cursor, const Entry& entry, GgufType type, std::uint64_t n) {
  switch (type) {
    case GgufType::u8:
      return numbers<std::int64_t, std::uint8_t>(cursor, entry, n);
    case GgufType::i8:
      return numbers<std::int64_t, std::int8_t>(cursor, entry, n);
    case GgufType::u16:
      return numbers<std::int64_t, std::uint16_t>(cursor, entry, n);
    case GgufType::i16:
      return numbers<std::int64_t, std::int16_t>(cursor, entry, n);
    case GgufType::u32:
      return numbers<std::int64_t, std::uint32_t>(cursor, entry, n);
    case GgufType::i32:
      return numbers<std::int64_t, std::int32_t>(cursor, entry, n);
    case GgufType::u64:
      return numbers<std::int64_t, std::uint64_t>(cursor, entry, n);
    case GgufType::i64:
      return numbers<std::int64_t, std::int64_t>(cursor, entry, n);
    case GgufType::f32:
      return numbers<double, float>(cursor, entry, n);
    case GgufType::f64:
      return numbers<double, double>(cursor, entry, n);
    case GgufType::boolean:
      return numbers<bool, std::uint8_t>(cursor, entry, n);
    case GgufType::string:
      return strings(cursor, entry, n);
    case GgufType::array:
      break;
  }
  return fail(Errc::unsupported, "{}: {}: array of arrays", cursor.origin(), entry.field());
}

Result<GgufValue> array(GgufCursor& cursor, const Entry& entry, Budget& budget, GgufType& type) {
  LARDER_ASSIGN(const auto number, cursor.number<std::uint32_t>(entry.field()));
  LARDER_ASSIGN(const auto n, cursor.number<std::uint64_t>(entry.field()));
  type = static_cast<GgufType>(number);
  if (number > static_cast<std::uint32_t>(GgufType::f64)) {
    return fail(Errc::corrupt, "{}: {}: array of unknown type {}", cursor.origin(), entry.field(),
                number);
  }
  if (type == GgufType::array) return elements(cursor, entry, type, n);
  if (n > cursor.remaining() / min_element_bytes(type)) {
    return fail(Errc::corrupt, "{}: {}: array of {} elements does not fit the {} bytes left",
                cursor.origin(), entry.field(), n, cursor.remaining());
  }
  std::uint64_t& left = type == GgufType::string ? budget.strings : budget.numbers;
  if (n > left) {
    return fail(Errc::unsupported, "{}: {}: array of {} elements exceeds the limit of {} in a file",
                cursor.origin(), entry.field(), n,
                type == GgufType::string ? kMaxStrings : kMaxNumbers);
  }
  left -= n;
  return elements(cursor, entry, type, n);
}

/// `type` comes in as the value's and leaves as the elements', for an array.
Result<GgufValue> read_value(GgufCursor& cursor, const Entry& entry, Budget& budget,
                             GgufType& type) {
  switch (type) {
    case GgufType::u8:
      return scalar<std::uint64_t, std::uint8_t>(cursor, entry);
    case GgufType::u16:
      return scalar<std::uint64_t, std::uint16_t>(cursor, entry);
    case GgufType::u32:
      return scalar<std::uint64_t, std::uint32_t>(cursor, entry);
    case GgufType::u64:
      return scalar<std::uint64_t, std::uint64_t>(cursor, entry);
    case GgufType::i8:
      return scalar<std::int64_t, std::int8_t>(cursor, entry);
    case GgufType::i16:
      return scalar<std::int64_t, std::int16_t>(cursor, entry);
    case GgufType::i32:
      return scalar<std::int64_t, std::int32_t>(cursor, entry);
    case GgufType::i64:
      return scalar<std::int64_t, std::int64_t>(cursor, entry);
    case GgufType::f32:
      return scalar<double, float>(cursor, entry);
    case GgufType::f64:
      return scalar<double, double>(cursor, entry);
    case GgufType::boolean:
      return boolean(cursor, entry);
    case GgufType::string: {
      LARDER_ASSIGN(const auto text, cursor.text(entry.field(), kMaxTextBytes));
      return GgufValue(std::string(text));
    }
    case GgufType::array:
      return array(cursor, entry, budget, type);
  }
  return fail(Errc::corrupt, "{}: {}: unknown value type {}", cursor.origin(), entry.field(),
              static_cast<std::uint32_t>(type));
}

}  // namespace

Result<void> read_gguf_metadata(GgufCursor& cursor, std::uint64_t n_entries,
                                GgufMetadata& metadata) {
  Budget budget;
  for (std::uint64_t i = 0; i < n_entries; ++i) {
    Entry entry;
    LARDER_ASSIGN(entry.key, cursor.text(fmt::format("key of metadata entry {}", i), kMaxKeyBytes));
    if (entry.key.empty()) {
      return fail(Errc::corrupt, "{}: metadata entry {} has an empty key", cursor.origin(), i);
    }
    if (metadata.has(entry.key)) {
      return fail(Errc::corrupt, "{}: {} occurs twice", cursor.origin(), entry.field());
    }
    LARDER_ASSIGN(const auto number, cursor.number<std::uint32_t>(entry.field()));
    auto type = static_cast<GgufType>(number);
    LARDER_ASSIGN(auto value, read_value(cursor, entry, budget, type));
    metadata.set(std::string(entry.key), std::move(value), type);
  }
  return {};
}

}  // namespace larder
