// The parameters of all methods.
#include <algorithm>
#include <array>
#include <charconv>

#include "base/check.h"
#include "base/fail.h"
#include "base/printable.h"
#include "policy/methods.h"

namespace larder {
namespace {

constexpr std::uint32_t kMaxTokens = 1U << 24;

struct Parameter {
  std::string_view name;
  std::uint32_t Policy::*value;
  std::uint32_t min, max;
};
constexpr std::array kParameters = {
    Parameter{"sinks", &Policy::sinks, 0, kMaxSinks},
    Parameter{"recent", &Policy::recent, 0, kMaxTokens},
    Parameter{"every", &Policy::every, 0, kMaxTokens},
    Parameter{"recent-percent", &Policy::recent_percent, 0, 100},
    Parameter{"window", &Policy::window, 0, kMaxTokens},
    Parameter{"rise-percent", &Policy::rise_percent, 0, 10000},
    Parameter{"kernel", &Policy::kernel, 1, 1025},
    Parameter{"floor-percent", &Policy::floor_percent, 0, 100},
    Parameter{"full-percent", &Policy::full_percent, 0, 100},
    Parameter{"beta", &Policy::beta, 1, kMaxTokens},
    Parameter{"heirs", &Policy::heirs, 1, kMaxTokens},
    Parameter{"seed", &Policy::seed, 0, UINT32_MAX},
    Parameter{"chunk", &Policy::chunk, 0, kMaxTokens},
    Parameter{"recover-percent", &Policy::recover_percent, 1, 100},
    Parameter{"heavy-percent", &Policy::heavy_percent, 0, 100},
    Parameter{"full-layers", &Policy::full_layers, 0, 1 << 16},
    Parameter{"representatives", &Policy::representatives, 1, 128},
};

const Parameter* find_parameter(std::string_view name) {
  const auto it = std::find_if(kParameters.begin(), kParameters.end(),
                               [name](const Parameter& p) { return p.name == name; });
  return it == kParameters.end() ? nullptr : &*it;
}

}  // namespace

std::uint32_t parameter(const Policy& policy, std::string_view name) noexcept {
  return policy.*find_parameter(name)->value;
}

std::span<const std::string_view> parameters() noexcept {
  static constexpr auto kNames = [] {
    std::array<std::string_view, kParameters.size()> names;
    for (std::size_t i = 0; i < names.size(); ++i) names[i] = kParameters[i].name;
    return names;
  }();
  return kNames;
}

Result<void> set_parameter(Policy& policy, std::string_view name, std::string_view value,
                           std::string_view where) {
  const Parameter* known = find_parameter(name);
  LARDER_CHECK(known != nullptr);
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc{} || end != value.data() + value.size() || number < known->min ||
      number > known->max) {
    return fail(Errc::invalid_argument, "{}: {} must be from {} to {}, not '{}'", where, name,
                known->min, known->max, printable(value));
  }
  policy.*known->value = number;
  return {};
}

}  // namespace larder
