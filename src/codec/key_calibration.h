// What is known of a model's keys before rope, and the file that says it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "codec/key_codes.h"
#include "larder/result.h"

namespace larder {

/// Means and spreads of channels, and a table for each format, of the keys of every layer.
struct KeyCalibration {
  struct Layer {
    std::vector<float> mean, spread;  // [n_heads, head_dim]; empty: no keys of its own
    /// Of y = (x - mean) / spread, ascending; by `table_index`, 2^bits each.
    std::array<std::vector<float>, 6> tables;
  };
  std::uint32_t n_heads = 0, head_dim = 0;  // KV heads
  std::uint32_t n_rot = 0;                  // channels that rope turns,
  bool adjacent = false;                    // in pairs (2i, 2i + 1) instead of (i, i + n_rot / 2)
  std::uint64_t n_tokens = 0;               // of the text it was measured on
  std::vector<Layer> layers;                // of the model, all of them
};

constexpr std::size_t table_index(const BeforeRope& format) noexcept {
  return 2 * (format.bits - 2) + (format.keeps_apart ? 1 : 0);
}

inline constexpr std::size_t kMaxKeyCalibrationBytes = std::size_t{1} << 26;

/// A text of lines: a word, then values with a blank between. In this order:
///   larder-key-calibration 1
///   layers N; heads N; channels N; tokens N
///   rope halves N, or rope adjacent N  (N: channels that are turned)
///   and of each layer that has keys of its own, in ascending order
///     layer L
///     mean H, spread H                 (of KV head H: channels values each), H = 0, 1, ...
///     kvq2, kvq2o, kvq3, kvq3o, kvq4, kvq4o  (2^bits values each, ascending)
std::string key_calibration_text(const KeyCalibration& calibration);

/// `origin` names the text in errors: invalid_argument (no such text, more than
/// kMaxKeyCalibrationBytes, sizes no model has, values that are no numbers, out of range or out of
/// order), with the line.
Result<KeyCalibration> parse_key_calibration(std::string_view text, const std::string& origin);

}  // namespace larder
