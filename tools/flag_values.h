// Values of flags: text to numbers, sizes and lists, refused by name when they make no sense.
#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/fail.h"

namespace larder {

/// Bytes from "4096", "512M", "2G", "1.5GiB" (powers of 1024) or "8GB" (powers of 1000).
/// Errors: invalid_argument (less than a byte but not 0, a part of one), with the text.
Result<std::uint64_t> parse_bytes(std::string_view text);

/// "1.50 GiB": three significant digits, powers of 1024.
std::string show_bytes(double n_bytes);

/// "a,b,c" to its parts. Errors: invalid_argument for an empty part.
Result<std::vector<std::string>> split_list(std::string_view text);

/// "512,2048" to its numbers. Errors: invalid_argument, with the part that is none.
Result<std::vector<std::uint32_t>> parse_counts(std::string_view text);

/// "15043=-2.5" to an id and a finite value. Errors: invalid_argument, with the text.
Result<std::pair<std::int32_t, float>> parse_logit_bias(std::string_view text);

/// A number that fills the text and fits `T`; floats are finite.
template <class T>
Result<T> parse_number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  bool good = error == std::errc{} && end == text.data() + text.size();
  if constexpr (std::is_floating_point_v<T>) good = good && std::isfinite(value);
  if (good) return value;
  if constexpr (std::is_floating_point_v<T>) {
    return fail(Errc::invalid_argument, "'{}' is not a number", text);
  } else {
    return fail(Errc::invalid_argument, "'{}' is not a whole number from {} to {}", text,
                std::numeric_limits<T>::min(), std::numeric_limits<T>::max());
  }
}

/// The first long name of "-c,--ctx-size,--max-model-len": how messages call the flag.
std::string shown_name(std::string_view names);

/// An option whose value `parse` turns into `store`'s argument; an error names the flag.
template <class Parse, class Store>
CLI::Option* add_parsed(CLI::App& app, const std::string& names, Parse parse, Store store,
                        const std::string& help) {
  const std::function<void(const std::string&)> take = [=](const std::string& text) {
    auto value = parse(text);
    if (!value) throw CLI::ValidationError(shown_name(names), value.error().message);
    store(std::move(*value));
  };
  return app.add_option_function<std::string>(names, take, help);
}

template <class T>
CLI::Option* add_number(CLI::App& app, const std::string& names, T& target,
                        const std::string& help) {
  return add_parsed(
             app, names, parse_number<T>, [&target](T value) { target = value; }, help)
      ->type_name("N")
      ->default_str(fmt::format("{}", target));
}
/// The same for a value that stays empty without the flag.
template <class T>
CLI::Option* add_number(CLI::App& app, const std::string& names, std::optional<T>& target,
                        const std::string& help) {
  return add_parsed(
             app, names, parse_number<T>, [&target](T value) { target = value; }, help)
      ->type_name("N");
}

/// An option for a list of numbers.
CLI::Option* add_counts(CLI::App& app, const std::string& names, std::vector<std::uint32_t>& target,
                        const std::string& help);

/// An option for a size in bytes.
CLI::Option* add_bytes(CLI::App& app, const std::string& names, std::uint64_t& target,
                       const std::string& help);

}  // namespace larder
