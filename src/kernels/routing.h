// Which experts of a mixture a token uses.
#pragma once

#include <cstdint>
#include <span>

namespace larder {

struct RoutingRule {
  std::uint32_t n_groups = 1;       // of as many neighbouring experts each
  std::uint32_t n_groups_used = 1;  // those whose best expert is best
  float scale = 1.0F;               // of the chosen experts' weights
  bool normalise = false;           // so that they sum to 1 before that
};

struct ExpertChoice {
  std::uint32_t expert;
  float weight;
};

/// Softmax over all experts, then the `out.size()` most likely ones of the groups in use, in order
/// of their index; of equals the first. `logits` [n_experts] becomes probabilities, 0 outside of
/// the groups in use. Method: DeepSeek-V2 (arXiv:2405.04434), section 2.2. REQUIRES: n_groups
/// divides logits.size(); the groups in use hold out.size() experts.
void choose_experts(const RoutingRule& rule, std::span<float> logits, std::span<ExpertChoice> out);

}  // namespace larder
