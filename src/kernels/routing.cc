#include "kernels/routing.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace larder {
namespace {

constexpr float kTaken = -1.0F;  // below every probability

void softmax(std::span<float> x) {
  const float max = *std::max_element(x.begin(), x.end());
  float sum = 0;
  for (float& v : x) sum += v = std::exp(v - max);
  for (float& v : x) v /= sum;
}

/// Zeroes all but the groups with the most likely experts.
void keep_best_groups(const RoutingRule& rule, std::span<float> p) {
  const std::size_t size = p.size() / rule.n_groups;
  const auto best = [&](std::size_t group) {
    return *std::max_element(p.begin() + static_cast<std::ptrdiff_t>(group * size),
                             p.begin() + static_cast<std::ptrdiff_t>((group + 1) * size));
  };
  for (std::uint32_t n = rule.n_groups_used; n < rule.n_groups; ++n) {
    // The worst of those that are left goes; of equals the last.
    std::size_t worst = rule.n_groups;
    for (std::size_t group = 0; group < rule.n_groups; ++group) {
      if (best(group) == kTaken) continue;
      if (worst == rule.n_groups || best(group) <= best(worst)) worst = group;
    }
    std::fill_n(p.begin() + static_cast<std::ptrdiff_t>(worst * size), size, kTaken);
  }
  std::replace(p.begin(), p.end(), kTaken, 0.0F);
}

}  // namespace

void choose_experts(const RoutingRule& rule, std::span<float> logits, std::span<ExpertChoice> out) {
  LARDER_CHECK(out.size() <= logits.size() && logits.size() % rule.n_groups == 0);
  softmax(logits);
  if (rule.n_groups_used < rule.n_groups) keep_best_groups(rule, logits);
  float sum = 0;
  for (ExpertChoice& choice : out) {
    const auto best = std::max_element(logits.begin(), logits.end());
    choice = {static_cast<std::uint32_t>(best - logits.begin()), *best};
    sum += *best;
    *best = kTaken;
  }
  for (ExpertChoice& choice : out) {
    logits[choice.expert] = choice.weight;
    if (rule.normalise) choice.weight /= sum;
    choice.weight *= rule.scale;
  }
  std::sort(out.begin(), out.end(),
            [](const ExpertChoice& a, const ExpertChoice& b) { return a.expert < b.expert; });
}

}  // namespace larder
