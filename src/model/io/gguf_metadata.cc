#include <array>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "base/fail.h"
#include "model/io/gguf.h"

namespace larder {
namespace {

constexpr std::array<std::string_view, 9> kKindNames{
    "an unsigned integer", "an integer",         "a number",
    "true or false",       "a string",           "a list of integers",
    "a list of numbers",   "a list of booleans", "a list of strings"};
static_assert(kKindNames.size() == std::variant_size_v<GgufValue>);

constexpr std::array<GgufType, 9> kWidest{GgufType::u64,     GgufType::i64,     GgufType::f64,
                                          GgufType::boolean, GgufType::string,  GgufType::i64,
                                          GgufType::f64,     GgufType::boolean, GgufType::string};
static_assert(kWidest.size() == std::variant_size_v<GgufValue>);

tl::unexpected<Error> missing(const std::string& origin, std::string_view key) {
  return fail(Errc::corrupt, "{}: metadata key '{}' is missing", origin, key);
}

tl::unexpected<Error> wrong_kind(const std::string& origin, std::string_view key,
                                 const GgufValue& value, std::string_view wanted) {
  return fail(Errc::corrupt, "{}: metadata key '{}' is {}, expected {}", origin, key,
              kKindNames[value.index()], wanted);
}

Result<std::uint32_t> to_u32(const std::string& origin, std::string_view key,
                             const GgufValue& value) {
  constexpr std::uint64_t kMax = std::numeric_limits<std::uint32_t>::max();
  if (const auto* u = std::get_if<std::uint64_t>(&value)) {
    if (*u <= kMax) return static_cast<std::uint32_t>(*u);
    return fail(Errc::corrupt, "{}: metadata key '{}' = {} exceeds 32 bits", origin, key, *u);
  }
  if (const auto* i = std::get_if<std::int64_t>(&value)) {
    if (*i >= 0 && static_cast<std::uint64_t>(*i) <= kMax) return static_cast<std::uint32_t>(*i);
    return fail(Errc::corrupt, "{}: metadata key '{}' = {} is not in 0..{}", origin, key, *i, kMax);
  }
  return wrong_kind(origin, key, value, kKindNames[0]);
}

Result<float> to_f32(const std::string& origin, std::string_view key, const GgufValue& value) {
  double number = 0;
  if (const auto* d = std::get_if<double>(&value)) {
    number = *d;
  } else if (const auto* u = std::get_if<std::uint64_t>(&value)) {
    number = static_cast<double>(*u);
  } else if (const auto* i = std::get_if<std::int64_t>(&value)) {
    number = static_cast<double>(*i);
  } else {
    return wrong_kind(origin, key, value, kKindNames[2]);
  }
  if (!(std::abs(number) <= std::numeric_limits<float>::max())) {
    return fail(Errc::corrupt, "{}: metadata key '{}' = {} is not a finite number", origin, key,
                number);
  }
  return static_cast<float>(number);
}

template <class T>
Result<T> exactly(const std::string& origin, std::string_view key, const GgufValue& value,
                  std::string_view wanted) {
  if (const auto* typed = std::get_if<T>(&value)) return *typed;
  return wrong_kind(origin, key, value, wanted);
}

}  // namespace

bool GgufMetadata::has(std::string_view key) const { return find(key) != nullptr; }

const GgufValue* GgufMetadata::find(std::string_view key) const {
  const auto it = entries_.find(key);
  return it == entries_.end() ? nullptr : &it->second;
}

Result<std::uint32_t> GgufMetadata::u32(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return missing(origin_, key);
  return to_u32(origin_, key, *value);
}

Result<std::uint32_t> GgufMetadata::u32_or(std::string_view key, std::uint32_t absent) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return absent;
  return to_u32(origin_, key, *value);
}

Result<float> GgufMetadata::f32(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return missing(origin_, key);
  return to_f32(origin_, key, *value);
}

Result<float> GgufMetadata::f32_or(std::string_view key, float absent) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return absent;
  return to_f32(origin_, key, *value);
}

Result<bool> GgufMetadata::bool_or(std::string_view key, bool absent) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return absent;
  return exactly<bool>(origin_, key, *value, kKindNames[3]);
}

Result<std::string> GgufMetadata::string(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return missing(origin_, key);
  return exactly<std::string>(origin_, key, *value, kKindNames[4]);
}

Result<std::string> GgufMetadata::string_or(std::string_view key, std::string absent) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return absent;
  return exactly<std::string>(origin_, key, *value, kKindNames[4]);
}

Result<std::vector<std::string>> GgufMetadata::strings(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::vector<std::string>{};
  return exactly<std::vector<std::string>>(origin_, key, *value, kKindNames[8]);
}

Result<std::vector<std::int64_t>> GgufMetadata::ints(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::vector<std::int64_t>{};
  // Per-layer flags are integers in some files and booleans in others.
  if (const auto* flags = std::get_if<std::vector<bool>>(value)) {
    return std::vector<std::int64_t>(flags->begin(), flags->end());
  }
  return exactly<std::vector<std::int64_t>>(origin_, key, *value, kKindNames[5]);
}

Result<std::vector<double>> GgufMetadata::floats(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::vector<double>{};
  if (const auto* whole = std::get_if<std::vector<std::int64_t>>(value)) {
    return std::vector<double>(whole->begin(), whole->end());
  }
  return exactly<std::vector<double>>(origin_, key, *value, kKindNames[6]);
}

void GgufMetadata::drop(std::string_view prefix) {
  const auto begins = [&](const auto& entry) { return entry.first.starts_with(prefix); };
  std::erase_if(entries_, begins);
  std::erase_if(types_, begins);
}

void GgufMetadata::set(std::string key, GgufValue value, std::optional<GgufType> type) {
  types_[key] = type.value_or(kWidest[value.index()]);
  entries_[std::move(key)] = std::move(value);
}

GgufType GgufMetadata::type(std::string_view key) const {
  const auto it = types_.find(key);
  LARDER_CHECK(it != types_.end());
  return it->second;
}

}  // namespace larder
