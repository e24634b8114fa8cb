#include "codec/key_calibration.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <optional>

#include "base/fail.h"

namespace larder {
namespace {

constexpr std::string_view kTitle = "larder-key-calibration";
constexpr std::uint64_t kMaxLayers = 1024, kMaxHeads = 1024;
constexpr float kMaxKey = 65504.0F, kMinSpread = 1e-6F, kMaxValue = 1e4F;

struct TableName {
  std::string_view name;
  BeforeRope format;
};
constexpr std::array kTables = {TableName{"kvq2", {2, false}}, TableName{"kvq2o", {2, true}},
                                TableName{"kvq3", {3, false}}, TableName{"kvq3o", {3, true}},
                                TableName{"kvq4", {4, false}}, TableName{"kvq4o", {4, true}}};

template <class T>
std::optional<T> parse(std::string_view word) {
  T value{};
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc{} || end != word.data() + word.size()) return std::nullopt;
  return value;
}

/// Words of a text, line by line.
class Lines {
 public:
  Lines(std::string_view text, const std::string& origin) : rest_(text), origin_(origin) {}

  bool at_end() const { return rest_.empty(); }
  /// Goes to the next line, which must begin with `word`.
  Result<void> begin(std::string_view word) {
    ++number_;
    const std::size_t end = rest_.find('\n');
    line_ = rest_.substr(0, end);
    rest_.remove_prefix(std::min(line_.size() + 1, rest_.size()));
    const std::string_view found = this->word();
    if (found != word) {
      return wrong(fmt::format("begins with '{}' instead of '{}'", shown(found), word));
    }
    if (end == std::string_view::npos) return wrong("is cut off");
    return {};
  }
  std::string_view word() {
    const std::size_t end = std::min(line_.find(' '), line_.size());
    const std::string_view word = line_.substr(0, end);
    line_.remove_prefix(std::min(end + 1, line_.size()));
    return word;
  }
  Result<std::uint64_t> count(std::uint64_t least, std::uint64_t most) {
    const std::string_view text = word();
    const auto n = parse<std::uint64_t>(text);
    if (n && *n >= least && *n <= most) return *n;
    return wrong(fmt::format("'{}' is no number from {} to {}", shown(text), least, most));
  }
  /// The rest of the line: `n` numbers.
  Result<std::vector<float>> numbers(std::size_t n, float least, float most) {
    std::vector<float> all;
    while (!line_.empty() && all.size() < n) {
      const std::string_view text = word();
      const auto x = parse<float>(text);
      if (!x || !(*x >= least && *x <= most)) {
        return wrong(fmt::format("'{}' is no number from {} to {}", shown(text), least, most));
      }
      all.push_back(*x);
    }
    if (all.size() == n && line_.empty()) return all;
    return wrong(fmt::format("does not have {} numbers", n));
  }
  Result<void> end() {
    if (line_.empty()) return {};
    return wrong(fmt::format("'{}' is too much", shown(line_)));
  }
  tl::unexpected<Error> wrong(const std::string& problem) const {
    return fail(Errc::invalid_argument, "{}, line {}: {}", origin_, number_, problem);
  }

 private:
  static std::string shown(std::string_view text) {
    std::string clean(text.substr(0, 40));
    std::replace_if(
        clean.begin(), clean.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
    return clean;
  }

  std::string_view rest_, line_;
  const std::string& origin_;
  std::size_t number_ = 0;
};

Result<std::uint64_t> read_count(Lines& lines, std::string_view name, std::uint64_t least,
                                 std::uint64_t most) {
  LARDER_TRY(lines.begin(name));
  LARDER_ASSIGN(const std::uint64_t n, lines.count(least, most));
  LARDER_TRY(lines.end());
  return n;
}

Result<void> read_rope(Lines& lines, KeyCalibration& calibration) {
  LARDER_TRY(lines.begin("rope"));
  const std::string_view style = lines.word();
  if (style != "halves" && style != "adjacent")
    return lines.wrong("is not rope halves or adjacent");
  calibration.adjacent = style == "adjacent";
  LARDER_ASSIGN(const std::uint64_t n_rot, lines.count(2, calibration.head_dim));
  if (n_rot % 2 != 0) return lines.wrong(fmt::format("{} channels cannot turn in pairs", n_rot));
  calibration.n_rot = static_cast<std::uint32_t>(n_rot);
  return lines.end();
}

Result<void> append_channels(Lines& lines, std::string_view name, std::uint32_t head,
                             const KeyCalibration& calibration, std::vector<float>& to) {
  LARDER_TRY(lines.begin(name));
  LARDER_TRY(lines.count(head, head));
  const float least = name == "spread" ? kMinSpread : -kMaxKey;
  LARDER_ASSIGN(const std::vector<float> channels,
                lines.numbers(calibration.head_dim, least, kMaxKey));
  to.insert(to.end(), channels.begin(), channels.end());
  return {};
}

Result<void> read_layer(Lines& lines, const KeyCalibration& calibration,
                        KeyCalibration::Layer& layer) {
  for (std::uint32_t head = 0; head < calibration.n_heads; ++head) {
    LARDER_TRY(append_channels(lines, "mean", head, calibration, layer.mean));
    LARDER_TRY(append_channels(lines, "spread", head, calibration, layer.spread));
  }
  for (const TableName& table : kTables) {
    LARDER_TRY(lines.begin(table.name));
    LARDER_ASSIGN(std::vector<float> values,
                  lines.numbers(std::size_t{1} << table.format.bits, -kMaxValue, kMaxValue));
    if (!std::is_sorted(values.begin(), values.end())) return lines.wrong("is not in order");
    layer.tables[table_index(table.format)] = std::move(values);
  }
  return {};
}

void append(std::string& text, const std::vector<float>& all, std::size_t first, std::size_t n) {
  for (std::size_t i = first; i < first + n; ++i) {
    fmt::format_to(std::back_inserter(text), " {}", all[i]);
  }
  text += '\n';
}

}  // namespace

std::string key_calibration_text(const KeyCalibration& c) {
  std::string text = fmt::format("{} 1\nlayers {}\nheads {}\nchannels {}\ntokens {}\nrope {} {}\n",
                                 kTitle, c.layers.size(), c.n_heads, c.head_dim, c.n_tokens,
                                 c.adjacent ? "adjacent" : "halves", c.n_rot);
  for (std::size_t l = 0; l < c.layers.size(); ++l) {
    const KeyCalibration::Layer& layer = c.layers[l];
    if (layer.mean.empty()) continue;
    text += fmt::format("layer {}\n", l);
    for (std::size_t head = 0; head < c.n_heads; ++head) {
      text += fmt::format("mean {}", head);
      append(text, layer.mean, head * c.head_dim, c.head_dim);
      text += fmt::format("spread {}", head);
      append(text, layer.spread, head * c.head_dim, c.head_dim);
    }
    for (const TableName& table : kTables) {
      text += table.name;
      const std::vector<float>& values = layer.tables[table_index(table.format)];
      append(text, values, 0, values.size());
    }
  }
  return text;
}

Result<KeyCalibration> parse_key_calibration(std::string_view text, const std::string& origin) {
  if (text.size() > kMaxKeyCalibrationBytes) {
    return fail(Errc::invalid_argument, "{}: has {} bytes, a calibration has at most {}", origin,
                text.size(), kMaxKeyCalibrationBytes);
  }
  Lines lines(text, origin);
  LARDER_TRY(read_count(lines, kTitle, 1, 1));
  KeyCalibration calibration;
  LARDER_ASSIGN(const std::uint64_t n_layers, read_count(lines, "layers", 1, kMaxLayers));
  LARDER_ASSIGN(const std::uint64_t n_heads, read_count(lines, "heads", 1, kMaxHeads));
  LARDER_ASSIGN(const std::uint64_t head_dim, read_count(lines, "channels", 2, simd::kMaxHeadDim));
  LARDER_ASSIGN(calibration.n_tokens, read_count(lines, "tokens", 0, UINT64_MAX));
  calibration.n_heads = static_cast<std::uint32_t>(n_heads);
  calibration.head_dim = static_cast<std::uint32_t>(head_dim);
  LARDER_TRY(read_rope(lines, calibration));
  calibration.layers.resize(n_layers);
  for (std::uint64_t next = 0; !lines.at_end();) {
    LARDER_TRY(lines.begin("layer"));
    LARDER_ASSIGN(const std::uint64_t l, lines.count(next, n_layers - 1));
    LARDER_TRY(lines.end());
    LARDER_TRY(read_layer(lines, calibration, calibration.layers[l]));
    next = l + 1;
  }
  return calibration;
}

}  // namespace larder
