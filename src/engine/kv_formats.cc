#include "engine/kv_formats.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "base/fail.h"

namespace larder {
namespace {

constexpr std::uint32_t kLast = std::numeric_limits<std::uint32_t>::max();

struct LayerRange {
  std::uint32_t begin, last;
};

std::optional<std::uint32_t> parse_number(std::string_view text) {
  std::uint32_t n = 0;
  const char* const end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, n);
  if (error != std::errc() || at != end || n == kLast) return std::nullopt;
  return n;
}

std::optional<LayerRange> parse_range(std::string_view text) {
  const std::size_t dash = text.find('-');
  const auto begin = parse_number(text.substr(0, dash));
  if (!begin) return std::nullopt;
  if (dash == std::string_view::npos) return LayerRange{*begin, *begin};
  const std::string_view last = text.substr(dash + 1);
  if (last.empty()) return LayerRange{*begin, kLast};
  const auto n = parse_number(last);
  if (!n || *n < *begin) return std::nullopt;
  return LayerRange{*begin, *n};
}

Result<const KvCodec*> find_format(std::string_view field, std::string_view name) {
  if (const auto format = parse_kv_format(name)) return &kv_codec(*format);
  return fail(Errc::invalid_argument, "{} must be one of {}, not '{}'", field, kv_format_names(),
              name);
}

struct LayerEntry {
  LayerRange range;
  KvFormats formats;
};

Result<LayerEntry> parse_entry(std::string_view entry) {
  const std::size_t colon = entry.find(':');
  const auto range = parse_range(entry.substr(0, colon));
  if (colon == std::string_view::npos || !range) {
    return fail(Errc::invalid_argument,
                "kv-layers: '{}' is not RANGE:FORMAT or RANGE:K/V with a range like 3, 2-5 or 2-",
                entry);
  }
  const std::string_view names = entry.substr(colon + 1);
  const std::string field = fmt::format("kv-layers: the format in '{}'", entry);
  const std::size_t slash = names.find('/');
  const std::string_view v_name = slash == std::string_view::npos ? names : names.substr(slash + 1);
  LARDER_ASSIGN(const KvCodec* k, find_format(field, names.substr(0, slash)));
  LARDER_ASSIGN(const KvCodec* v, find_format(field, v_name));
  return LayerEntry{*range, {k, v}};
}

Result<std::vector<LayerEntry>> parse_layers(std::string_view text) {
  std::vector<LayerEntry> entries;
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    LARDER_ASSIGN(const LayerEntry entry, parse_entry(text.substr(0, comma)));
    for (const LayerEntry& other : entries) {
      if (entry.range.begin <= other.range.last && other.range.begin <= entry.range.last) {
        return fail(Errc::invalid_argument, "kv-layers: '{}' names layer {} again", text,
                    std::max(entry.range.begin, other.range.begin));
      }
    }
    entries.push_back(entry);
    text = comma == std::string_view::npos ? "" : text.substr(comma + 1);
  }
  return entries;
}

}  // namespace

std::string kv_format_names() {
  std::string names;
  for (const KvCodec* codec : kv_codecs()) {
    if (!names.empty()) names += ", ";
    names += codec->name;
  }
  return names;
}

Result<void> check_formats(const KvOptions& options) {
  LARDER_TRY(find_format("cache-type-k", options.type_k));
  LARDER_TRY(find_format("cache-type-v", options.type_v));
  LARDER_TRY(parse_layers(options.layers));
  return {};
}

Result<std::vector<KvFormats>> layer_formats(const KvOptions& options, std::uint32_t n_layers) {
  LARDER_ASSIGN(const KvCodec* k, find_format("cache-type-k", options.type_k));
  LARDER_ASSIGN(const KvCodec* v, find_format("cache-type-v", options.type_v));
  LARDER_ASSIGN(const auto entries, parse_layers(options.layers));
  std::vector<KvFormats> formats(n_layers, {k, v});
  for (const LayerEntry& entry : entries) {
    const std::uint32_t last = entry.range.last == kLast ? n_layers - 1 : entry.range.last;
    if (entry.range.begin >= n_layers || last >= n_layers) {
      return fail(Errc::invalid_argument, "kv-layers: '{}' names layer {}, the model has 0 to {}",
                  options.layers, std::max(entry.range.begin, last), n_layers - 1);
    }
    for (std::uint32_t layer = entry.range.begin; layer <= last; ++layer) {
      formats[layer] = entry.formats;
    }
  }
  return formats;
}

std::string formats_text(const std::vector<KvFormats>& formats) {
  std::string text;
  for (std::size_t begin = 0, end = 0; begin < formats.size(); begin = end) {
    while (end < formats.size() && formats[end] == formats[begin]) ++end;
    if (!text.empty()) text += "; ";
    if (end - begin < formats.size()) {
      text +=
          end - begin == 1 ? fmt::format("{}: ", begin) : fmt::format("{}-{}: ", begin, end - 1);
    }
    text += fmt::format("K {}, V {}", formats[begin].k->name, formats[begin].v->name);
  }
  return text;
}

}  // namespace larder
