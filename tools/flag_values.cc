#include "flag_values.h"

#include <fmt/ranges.h>

#include <array>
#include <cmath>

namespace larder {
namespace {

struct Suffix {
  std::string_view text;
  double factor;
};

constexpr double kKibi = 1024.0;
constexpr std::array kSuffixes = {
    Suffix{"", 1},
    Suffix{"B", 1},
    Suffix{"K", kKibi},
    Suffix{"KiB", kKibi},
    Suffix{"KB", 1e3},
    Suffix{"M", kKibi* kKibi},
    Suffix{"MiB", kKibi* kKibi},
    Suffix{"MB", 1e6},
    Suffix{"G", kKibi* kKibi* kKibi},
    Suffix{"GiB", kKibi* kKibi* kKibi},
    Suffix{"GB", 1e9},
    Suffix{"T", kKibi* kKibi* kKibi* kKibi},
    Suffix{"TiB", kKibi* kKibi* kKibi* kKibi},
    Suffix{"TB", 1e12},
};

}  // namespace

Result<std::uint64_t> parse_bytes(std::string_view text) {
  const auto digits = text.find_first_not_of("0123456789.");
  const std::string_view number = text.substr(0, digits);
  const std::string_view unit = digits == std::string_view::npos ? "" : text.substr(digits);
  const auto value = parse_number<double>(number);
  for (const Suffix& suffix : kSuffixes) {
    if (!value || suffix.text != unit) continue;
    const double n_bytes = *value * suffix.factor;
    const bool is_part_of_byte = suffix.factor == 1 && n_bytes != std::floor(n_bytes);
    if (is_part_of_byte || (n_bytes > 0 && n_bytes < 1)) break;
    if (n_bytes < 0x1p63) return static_cast<std::uint64_t>(n_bytes);
  }
  return fail(Errc::invalid_argument, "'{}' is not a size such as 4096, 512M, 1.5GiB or 8GB", text);
}

std::string show_bytes(double n_bytes) {
  constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  std::size_t unit = 0;
  while (n_bytes >= 999.5 && unit + 1 < kUnits.size()) {
    n_bytes /= kKibi;
    ++unit;
  }
  if (unit == 0) return fmt::format("{:.0f} B", n_bytes);
  const int decimals = n_bytes < 9.995 ? 2 : n_bytes < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f} {}", n_bytes, decimals, kUnits[unit]);
}

Result<std::vector<std::string>> split_list(std::string_view text) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    if (end == begin) return fail(Errc::invalid_argument, "'{}' has an empty part", text);
    parts.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

Result<std::vector<std::uint32_t>> parse_counts(std::string_view text) {
  LARDER_ASSIGN(const auto parts, split_list(text));
  std::vector<std::uint32_t> counts;
  for (const std::string& part : parts) {
    LARDER_ASSIGN(const auto count, parse_number<std::uint32_t>(part));
    counts.push_back(count);
  }
  return counts;
}

Result<std::pair<std::int32_t, float>> parse_logit_bias(std::string_view text) {
  const std::size_t equals = text.find('=');
  if (equals != std::string_view::npos) {
    const auto id = parse_number<std::int32_t>(text.substr(0, equals));
    const auto bias = parse_number<float>(text.substr(equals + 1));
    if (id && bias) return std::pair{*id, *bias};
  }
  return fail(Errc::invalid_argument, "'{}' is not ID=VALUE, a token id and a number", text);
}

std::string shown_name(std::string_view names) {
  const std::size_t begin = names.find("--");
  if (begin == std::string_view::npos) return std::string(names);
  return std::string(names.substr(begin, names.find(',', begin) - begin));
}

CLI::Option* add_counts(CLI::App& app, const std::string& names, std::vector<std::uint32_t>& target,
                        const std::string& help) {
  const auto store = [&target](std::vector<std::uint32_t> values) { target = std::move(values); };
  return add_parsed(app, names, parse_counts, store, help)
      ->type_name("N,...")
      ->default_str(fmt::format("{}", fmt::join(target, ",")));
}

CLI::Option* add_bytes(CLI::App& app, const std::string& names, std::uint64_t& target,
                       const std::string& help) {
  return add_parsed(
             app, names, parse_bytes, [&target](std::uint64_t value) { target = value; }, help)
      ->type_name("SIZE");
}

}  // namespace larder
