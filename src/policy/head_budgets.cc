#include "policy/head_budgets.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>

#include "base/fail.h"
#include "base/printable.h"

namespace larder {
namespace {

constexpr std::size_t kMaxLayers = 4096, kMaxHeads = 4096;

std::string_view next_line(std::string_view& text) {
  const std::string_view line = text.substr(0, text.find('\n'));
  text.remove_prefix(std::min(line.size() + 1, text.size()));
  return line;
}

Result<std::uint32_t> add_line(std::string_view line, const std::string& where,
                               std::vector<float>& weights) {
  constexpr std::string_view kBlanks = " \t\r";
  std::uint32_t n = 0;
  for (std::size_t begin = 0; (begin = line.find_first_not_of(kBlanks, begin)) != line.npos; ++n) {
    const std::size_t end = std::min(line.find_first_of(kBlanks, begin), line.size());
    const std::string word(line.substr(begin, end - begin));
    char* stop = nullptr;
    const float weight = std::strtof(word.c_str(), &stop);
    if (stop != word.c_str() + word.size() || !std::isfinite(weight) || weight < 0) {
      return fail(Errc::invalid_argument, "{}: '{}' is no weight of a head: a number, 0 or more",
                  where, printable(word));
    }
    if (n == kMaxHeads) return fail(Errc::invalid_argument, "{}: more than {} heads", where, n);
    weights.push_back(weight);
    begin = end;
  }
  return n;
}

}  // namespace

Result<HeadWeights> parse_head_weights(std::string_view text, const std::string& origin) {
  HeadWeights weights;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::string_view line = next_line(text);
    if (!line.empty() && line.front() == '#') continue;
    const std::string where = fmt::format("{}, line {}", origin, number);
    LARDER_ASSIGN(const std::uint32_t n, add_line(line, where, weights.weights));
    if (n == 0) continue;
    if (weights.n_layers == 0) weights.n_heads = n;
    if (n != weights.n_heads) {
      return fail(Errc::invalid_argument, "{}: {} heads, {} in the lines before", where, n,
                  weights.n_heads);
    }
    if (++weights.n_layers > kMaxLayers) {
      return fail(Errc::invalid_argument, "{}: more than {} layers", where, kMaxLayers);
    }
  }
  if (weights.n_layers != 0) return weights;
  return fail(Errc::invalid_argument, "{}: no line with weights of heads", origin);
}

Result<HeadShares> head_shares(const Policy& policy, const HeadWeights& weights,
                               std::span<const std::uint32_t> layers) {
  HeadShares shares{weights.n_heads, std::vector<float>(weights.weights.size(), 0.0F)};
  std::vector<std::size_t> heads;  // those that drop rows
  for (const std::uint32_t layer : layers) {
    for (std::uint32_t head = 0; head < weights.n_heads; ++head) {
      heads.push_back(std::size_t{layer} * weights.n_heads + head);
    }
  }
  const double sum = std::accumulate(heads.begin(), heads.end(), 0.0, [&](double s, std::size_t i) {
    return s + double{weights.weights[i]};
  });
  if (sum == 0) return fail(Errc::invalid_argument, "heads: the weights are all 0");
  if (policy.head_file == HeadFile::classes) {
    std::stable_sort(heads.begin(), heads.end(), [&](std::size_t a, std::size_t b) {
      return weights.weights[a] > weights.weights[b];
    });
    const std::size_t n_full = (heads.size() * policy.full_percent + 99) / 100;
    for (std::size_t i = 0; i < heads.size(); ++i) {
      shares.shares[heads[i]] = i < n_full ? HeadShares::kAll : 1.0F;
    }
    return shares;
  }
  for (const std::size_t i : heads) {
    shares.shares[i] =
        static_cast<float>(double{weights.weights[i]} / sum * static_cast<double>(heads.size()));
  }
  return shares;
}

std::uint32_t rows_of_head(const Policy& policy, std::uint32_t n_keep, float share) noexcept {
  if (share == HeadShares::kAll) return UINT32_MAX;
  const std::uint32_t n_protected = std::min(policy.sinks + policy.recent, n_keep);
  const double rest = std::floor(double{share} * (n_keep - n_protected));
  return n_protected + static_cast<std::uint32_t>(std::min(rest, double{1U << 30}));
}

}  // namespace larder
