#include "layer_budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/fail.h"

namespace larder {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

std::uint64_t most_saved(const std::vector<LayerSide>& sides) {
  std::uint64_t n = 0;
  for (const LayerSide& side : sides) {
    std::uint64_t most = 0;
    for (const FormatChoice& choice : side.choices) most = std::max(most, choice.saved_bytes);
    n += most;
  }
  return n;
}

}  // namespace

Result<std::vector<std::size_t>> choose_formats(const std::vector<LayerSide>& sides,
                                                std::uint64_t n_bytes) {
  constexpr std::uint64_t kSteps = 65536;
  if (const std::uint64_t most = most_saved(sides); most < n_bytes) {
    return fail(Errc::invalid_argument,
                "{} bytes per token must be saved, the smallest of these formats save {}", n_bytes,
                most);
  }
  const std::uint64_t unit = std::max<std::uint64_t>(1, n_bytes / kSteps);
  const std::size_t n_wanted = (n_bytes + unit - 1) / unit;
  // least[s]: the least KL with which the sides so far save s steps, or for the last s all that is
  // wanted or more; `chosen` and `before` lead back from there.
  std::vector<double> least(n_wanted + 1, kNever);
  least[0] = 0;
  std::vector<std::vector<std::uint16_t>> chosen(sides.size());
  std::vector<std::vector<std::uint32_t>> before(sides.size());
  for (std::size_t i = 0; i < sides.size(); ++i) {
    std::vector<double> next(n_wanted + 1, kNever);
    chosen[i].resize(n_wanted + 1);
    before[i].resize(n_wanted + 1);
    for (std::size_t c = 0; c < sides[i].choices.size(); ++c) {
      const FormatChoice& choice = sides[i].choices[c];
      for (std::size_t s = 0; s <= n_wanted; ++s) {
        const double kl = least[s] + choice.kl;
        const std::size_t to = std::min<std::size_t>(n_wanted, s + choice.saved_bytes / unit);
        if (kl >= next[to]) continue;
        next[to] = kl;
        chosen[i][to] = static_cast<std::uint16_t>(c);
        before[i][to] = static_cast<std::uint32_t>(s);
      }
    }
    least = std::move(next);
  }
  if (least[n_wanted] == kNever) {
    return fail(Errc::invalid_argument, "{} bytes per token are too near to all that can be saved",
                n_bytes);
  }
  std::vector<std::size_t> result(sides.size());
  std::size_t at = n_wanted;
  for (std::size_t i = sides.size(); i-- > 0;) {
    result[i] = chosen[i][at];
    at = before[i][at];
  }
  return result;
}

std::string kv_layers_text(const std::vector<LayerSide>& sides,
                           const std::vector<std::size_t>& chosen) {
  const auto formats = [&](std::size_t i) {
    const std::string& k = sides[i].choices[chosen[i]].format;
    const std::string& v = sides[i + 1].choices[chosen[i + 1]].format;
    return k == v ? k : k + "/" + v;
  };
  std::string text;
  for (std::size_t i = 0; i < sides.size();) {
    const std::string here = formats(i);
    const std::uint32_t first = sides[i].layer;
    std::uint32_t last = first;
    for (i += 2; i < sides.size() && sides[i].layer == last + 1 && formats(i) == here; i += 2) {
      ++last;
    }
    const std::string range =
        first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last);
    text += fmt::format("{}{}:{}", text.empty() ? "" : ",", range, here);
  }
  return text;
}

}  // namespace larder
