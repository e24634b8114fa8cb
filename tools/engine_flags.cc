#include "engine_flags.h"

#include <algorithm>
#include <array>
#include <utility>

#include "codec/kv_codec.h"
#include "flag_values.h"
#include "layer_formats_file.h"
#include "spellings.h"

namespace larder {
namespace {

struct Names {
  std::string_view field;  // as for_each_field calls it
  std::string_view names;  // of llama.cpp and vLLM
};

// "-ctk" and its like have one dash and several letters: see spellings.h.
constexpr std::array kOtherNames = {
    Names{"model", "-m"},
    Names{"ctx-size", "-c,--max-model-len"},
    Names{"parallel", "--max-num-seqs"},
    Names{"ubatch-size", "--max-num-batched-tokens"},
    Names{"threads", "-t"},
    Names{"kv-memory", "--kv-cache-memory-bytes"},
};

class FlagMaker {
 public:
  FlagMaker(CLI::App& app, std::initializer_list<std::string_view> except)
      : app_(app), except_(except) {}

  void operator()(std::string_view field, std::string& value, const char* help) {
    if (skipped(field)) return;
    const std::string names = engine_flag_names(field);
    CLI::Option* option =
        field == "kv-layers"
            ? add_parsed(
                  app_, names, read_layer_formats,
                  [&value](std::string text) { value = std::move(text); },
                  full_help(field, help) + "; @FILE: what a file says, an entry a line")
            : app_.add_option(names, value, full_help(field, help));
    option->group("Engine")->type_name("TEXT");
    if (!value.empty()) option->default_str(value);
    if (field == "model") option->required();
  }
  void operator()(std::string_view field, std::uint32_t& value, const char* help) {
    if (!skipped(field))
      add_number(app_, engine_flag_names(field), value, full_help(field, help))->group("Engine");
  }
  void operator()(std::string_view field, std::uint64_t& value, const char* help) {
    if (!skipped(field))
      add_bytes(app_, engine_flag_names(field), value, full_help(field, help))->group("Engine");
  }

 private:
  static std::string full_help(std::string_view field, const char* help) {
    const std::string_view also = dashed_spelling("--" + std::string(field));
    return also.empty() ? help : fmt::format("{} (also {})", help, also);
  }
  bool skipped(std::string_view field) const {
    return std::find(except_.begin(), except_.end(), field) != except_.end();
  }
  CLI::App& app_;
  std::vector<std::string_view> except_;
};

}  // namespace

std::string engine_flag_names(std::string_view field) {
  std::string names = "--" + std::string(field);
  for (const Names& other : kOtherNames) {
    if (other.field == field) names.append(",").append(other.names);
  }
  return names;
}

std::string kv_format_name(std::string name) {
  if (name == "auto") return KvOptions{}.type_k;
  if (name == "bfloat16") return "bf16";
  if (name == "float16") return "f16";
  return name;
}

void add_engine_flags(CLI::App& app, EngineOptions& options,
                      std::initializer_list<std::string_view> except) {
  for_each_field(options, FlagMaker(app, except));
  const auto is_except = [&](std::string_view field) {
    return std::find(except.begin(), except.end(), field) != except.end();
  };
  if (is_except("cache-type-k") || is_except("cache-type-v")) return;
  const std::function<void(const std::string&)> both = [&options](const std::string& name) {
    const std::string format = kv_format_name(name);
    if (!parse_kv_format(format)) {
      throw CLI::ValidationError("--kv-cache-dtype",
                                 fmt::format("'{}' is no storage format", name));
    }
    options.kv.type_k = options.kv.type_v = format;
  };
  app.add_option_function<std::string>("--kv-cache-dtype", both,
                                       "storage format of keys and values")
      ->excludes(app.get_option("--cache-type-k"))
      ->excludes(app.get_option("--cache-type-v"))
      ->group("Engine");
}

}  // namespace larder
