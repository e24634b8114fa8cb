#include "model/rope_table.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>

#include "base/check.h"

namespace larder {
namespace {

/// base^(-2i / n_rot), in double so that scaling is exact and rounding to float happens once.
std::vector<double> plain_frequencies(double base, std::uint32_t n_rot) {
  std::vector<double> frequencies(n_rot / 2);
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = std::pow(base, -2.0 * static_cast<double>(i) / n_rot);
  }
  return frequencies;
}

/// The (fractional) frequency index that makes `n_turns` turns over the original context.
double index_of_turns(const RopeConfig& rope, double n_turns) {
  return rope.n_rot * std::log(rope.original_context / (n_turns * 2.0 * std::numbers::pi)) /
         (2.0 * std::log(static_cast<double>(rope.base)));
}

/// Frequencies that turn often keep their value, slow ones are interpolated, a ramp in between.
void scale_yarn(const RopeConfig& rope, std::vector<double>& frequencies) {
  const double low = std::max(0.0, std::floor(index_of_turns(rope, rope.beta_fast)));
  double high = std::min(rope.n_rot - 1.0, std::ceil(index_of_turns(rope, rope.beta_slow)));
  if (low == high) high += 0.001;
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] *= (1.0 - ramp) + ramp / rope.factor;
  }
}

void divide(std::vector<double>& frequencies, const std::vector<float>& divisors) {
  LARDER_CHECK(divisors.size() == frequencies.size());
  for (std::size_t i = 0; i < frequencies.size(); ++i) frequencies[i] /= divisors[i];
}

float longrope_attention_factor(const RopeConfig& rope) noexcept {
  if (rope.factor <= 1.0F) return 1.0F;
  return static_cast<float>(std::sqrt(1.0 + std::log(static_cast<double>(rope.factor)) /
                                                std::log(rope.original_context * 1.0)));
}

void scale(const RopeConfig& rope, std::uint32_t n_context, std::vector<double>& frequencies) {
  switch (rope.scaling) {
    case RopeScaling::none:
      break;
    case RopeScaling::linear:
      for (double& f : frequencies) f /= rope.factor;
      break;
    case RopeScaling::llama3:
      divide(frequencies, llama3_divisors(rope));
      break;
    case RopeScaling::yarn:
      scale_yarn(rope, frequencies);
      break;
    case RopeScaling::longrope:
      divide(frequencies,
             n_context > rope.original_context ? rope.long_factors : rope.short_factors);
      break;
  }
  if (!rope.frequency_divisors.empty()) divide(frequencies, rope.frequency_divisors);
}

}  // namespace

float yarn_attention_factor(float factor) noexcept {
  return factor <= 1.0F ? 1.0F : static_cast<float>(0.1 * std::log(factor * 1.0) + 1.0);
}

float rope_amplitude(const RopeConfig& rope) noexcept {
  if (rope.scaling != RopeScaling::yarn && rope.scaling != RopeScaling::longrope) return 1.0F;
  if (rope.attention_factor != 0) return rope.attention_factor;
  return rope.scaling == RopeScaling::yarn ? yarn_attention_factor(rope.factor)
                                           : longrope_attention_factor(rope);
}

std::vector<float> llama3_divisors(const RopeConfig& rope) {
  LARDER_CHECK(rope.scaling == RopeScaling::llama3);
  const double low_wavelength = rope.original_context / static_cast<double>(rope.low_freq_factor);
  const double high_wavelength = rope.original_context / static_cast<double>(rope.high_freq_factor);
  std::vector<float> divisors;
  for (const double frequency : plain_frequencies(rope.base, rope.n_rot)) {
    const double wavelength = 2.0 * std::numbers::pi / frequency;
    double divisor = 1.0;
    if (wavelength > low_wavelength) {
      divisor = rope.factor;
    } else if (wavelength >= high_wavelength) {
      const double smooth = (rope.original_context / wavelength - rope.low_freq_factor) /
                            (rope.high_freq_factor - rope.low_freq_factor);
      divisor = 1.0 / ((1.0 - smooth) / rope.factor + smooth);
    }
    divisors.push_back(static_cast<float>(divisor));
  }
  return divisors;
}

RopeTable make_rope_table(const ModelConfig& config, bool local, std::uint32_t n_context) {
  const RopeConfig& rope = config.rope;
  LARDER_CHECK(rope.n_rot > 0 && rope.n_rot % 2 == 0);
  const bool own_base = local && rope.local_base != 0;
  auto frequencies = plain_frequencies(own_base ? rope.local_base : rope.base, rope.n_rot);
  RopeTable table;
  table.adjacent = rope.style == RopeStyle::adjacent;
  if (!own_base) {
    scale(rope, n_context, frequencies);
    table.amplitude = rope_amplitude(rope);
  }
  table.inv_freq.assign(frequencies.begin(), frequencies.end());
  return table;
}

}  // namespace larder
