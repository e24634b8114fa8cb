#include "policy/methods.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/fail.h"

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

constexpr std::string_view kWindowParameters[] = {"sinks", "every"};
constexpr std::string_view kScoreParameters[] = {"sinks", "recent", "every"};
constexpr std::string_view kRandomParameters[] = {"sinks", "recent", "every", "seed"};

constexpr std::string_view kHeavyParameters[] = {"sinks", "recent", "recent-percent", "every"};
constexpr std::string_view kObserveParameters[] = {"sinks", "recent", "every", "window", "kernel"};
constexpr std::string_view kPyramidParameters[] = {"sinks",  "recent", "every",
                                                   "window", "kernel", "beta"};

constexpr std::string_view kSplitObserveParameters[] = {"sinks",  "recent", "every",
                                                        "window", "kernel", "floor-percent"};
constexpr std::string_view kSplitParameters[] = {"sinks", "recent", "every", "floor-percent"};
constexpr std::string_view kCountParameters[] = {"sinks", "recent", "every", "window"};
constexpr std::string_view kNoisyParameters[] = {"sinks", "recent", "recent-percent", "every",
                                                 "seed"};
constexpr std::string_view kRisingParameters[] = {"sinks",  "recent",       "every",
                                                  "window", "rise-percent", "beta"};
constexpr std::string_view kReadingParameters[] = {"full-layers"};
constexpr std::string_view kRetrieveParameters[] = {"sinks", "recent", "representatives",
                                                    "full-layers"};
constexpr std::string_view kClassParameters[] = {"sinks", "every", "full-percent"};
constexpr std::string_view kShareOutParameters[] = {"sinks", "recent", "recent-percent",
                                                    "every", "heirs",  "seed"};
constexpr std::string_view kRereadParameters[] = {"sinks", "recent", "floor-percent", "chunk"};
constexpr std::string_view kPatternParameters[] = {"sinks", "recent", "recover-percent"};
constexpr std::string_view kRunParameters[] = {"sinks", "recent", "recent-percent",
                                               "heavy-percent"};

constexpr std::array kMethods = {
    Method{"streaming-llm",
           "the first rows and a window of the newest, met at their distance in the cache",
           "Xiao et al. 2023, arXiv:2309.17453",
           true,
           {.score = Score::position,
            .recent = 0,
            .at_prompt_end = false,
            .sink_distance = SinkDistance::in_cache},
           kWindowParameters},
    Method{"lm-infinite",
           "the first rows and a window of the newest, the first ones never met at more than it",
           "Han et al. 2023, arXiv:2308.16137",
           true,
           {.score = Score::position,
            .sinks = 10,
            .recent = 0,
            .at_prompt_end = false,
            .sink_distance = SinkDistance::capped},
           kWindowParameters},
    Method{"window",
           "the first rows and a window of the newest, met at their true distance",
           "the baseline of many papers",
           true,
           {.score = Score::position, .recent = 0},
           kWindowParameters},
    Method{"duo-attention",
           "every row of the heads that look far, told by a file, and window for the others",
           "Xiao et al. 2024, arXiv:2410.10819",
           true,
           {.score = Score::position,
            .sinks = 64,
            .recent = 0,
            .at_prompt_end = false,
            .head_file = HeadFile::classes},
           kClassParameters},
    Method{"ada-snapkv",
           "snapkv with more rows for the KV heads that have the best ones",
           "Feng et al. 2024, arXiv:2407.11550",
           false,
           {.score = Score::attention,
            .sinks = 0,
            .recent = 32,
            .every = 0,
            .window = 32,
            .kernel = 5,
            .splits_heads = true},
           kSplitObserveParameters},
    Method{"ada-expected-attention",
           "expected-attention with more rows for the KV heads that have the best ones",
           "Devoto et al. 2025, arXiv:2510.00636",
           true,
           {.score = Score::expected_attention, .splits_heads = true},
           kSplitParameters},
    Method{"expected-attention",
           "rows that may expect the most attention of queries like those so far, times |v|",
           "Devoto et al. 2025, arXiv:2510.00636",
           true,
           {.score = Score::expected_attention},
           kScoreParameters},
    Method{"knorm",
           "rows whose keys have the smallest norms",
           "Devoto et al. 2024, arXiv:2406.11430",
           true,
           {.score = Score::key_norm},
           kScoreParameters},
    Method{"keydiff",
           "rows whose keys are least like the mean of all keys",
           "Park et al. 2025, arXiv:2504.15364",
           true,
           {.score = Score::key_spread},
           kScoreParameters},
    Method{"h2o",
           "heavy hitters: rows with the most attention so far, and as many of the newest",
           "Zhang et al. 2023, arXiv:2306.14048",
           true,
           {.score = Score::attention, .sinks = 0, .recent = 0, .recent_percent = 50},
           kHeavyParameters},
    Method{"scissorhands",
           "rows that queries of the last so many found unimportant the least often",
           "Liu et al. 2023, arXiv:2305.17118",
           false,
           {.score = Score::attention,
            .sinks = 0,
            .recent = 10,
            .every = 512,
            .counting = Counting::unimportant,
            .window = 400},
           kCountParameters},
    Method{"keyformer",
           "h2o with noise on the scores and temperatures that rise, so that rows get their chance",
           "Adnan et al. 2024, arXiv:2403.09054",
           true,
           {.score = Score::attention,
            .sinks = 0,
            .recent = 0,
            .recent_percent = 30,
            .counting = Counting::noisy},
           kNoisyParameters},
    Method{"tova",
           "rows to which the newest query pays the most attention, over all heads of a layer",
           "Oren et al. 2024, arXiv:2401.06104",
           false,
           {.score = Score::attention, .sinks = 0, .recent = 0, .window = 1, .joins_heads = true},
           kScoreParameters},
    Method{"snapkv",
           "rows to which the end of the prompt pays the most attention, with their neighbours",
           "Li et al. 2024, arXiv:2404.14469",
           false,
           {.score = Score::attention,
            .sinks = 0,
            .recent = 32,
            .every = 0,
            .window = 32,
            .kernel = 5},
           kObserveParameters},
    Method{"pyramidkv",
           "snapkv with fewer rows the deeper the layer",
           "Cai et al. 2024, arXiv:2406.02069",
           false,
           {.score = Score::attention,
            .sinks = 0,
            .recent = 32,
            .every = 0,
            .window = 32,
            .kernel = 5,
            .allocation = Allocation::pyramid},
           kPyramidParameters},
    Method{
        "pyramidinfer",
        "rows with the most attention of the newest queries, the newer the more, fewer with depth",
        "Yang et al. 2024, arXiv:2405.12532",
        false,
        {.score = Score::attention,
         .recent = 48,
         .window = 48,
         .rise_percent = 20,
         .joins_heads = true,
         .allocation = Allocation::pyramid,
         .beta = 2},
        kRisingParameters},
    Method{"cam",
           "h2o whose dropped values are shared out among the next rows, by lot",
           "Zhang et al. 2024, OpenReview LCTmppB165",
           true,
           {.score = Score::attention,
            .sinks = 0,
            .recent = 0,
            .recent_percent = 50,
            .merging = Merging::shared_out},
           kShareOutParameters},
    Method{"d2o",
           "h2o whose dropped values join the row with the likest key, if it is like enough",
           "Wan et al. 2024, arXiv:2406.13035",
           true,
           {.score = Score::attention,
            .sinks = 0,
            .recent = 0,
            .recent_percent = 50,
            .merging = Merging::to_likest},
           kHeavyParameters},
    Method{"kvzip",
           "rows to which the model looks when it reads its prompt again, in order to repeat it",
           "Kim et al. 2025, arXiv:2505.23416",
           true,
           {.score = Score::attention,
            .every = 0,
            .counting = Counting::largest,
            .splits_heads = true,
            .floor_percent = 0,
            .chunk = 2048},
           kRereadParameters},
    Method{"fastgen",
           "of special tokens, punctuation, frequent and near rows so much as a head needs, or all",
           "Ge et al. 2024, arXiv:2310.01801",
           true,
           {.score = Score::attention, .sinks = 0, .recent = 0, .every = 0, .fits_patterns = true},
           kPatternParameters},
    Method{"kvmerger",
           "neighbouring rows with alike keys become one, keys and values, by Gaussian weights",
           "Wang et al. 2024, arXiv:2407.08454",
           true,
           {.score = Score::attention,
            .sinks = 0,
            .recent = 0,
            .every = 0,
            .recent_percent = 34,
            .merging = Merging::in_runs,
            .heavy_percent = 24},
           kRunParameters},
    Method{"random",
           "rows drawn by lot: what any other method has to beat",
           "a baseline",
           true,
           {.score = Score::random},
           kRandomParameters},
    Method{"quest",
           "drops nothing: generated tokens read the blocks whose keys may give them the most",
           "Tang et al. 2024, arXiv:2406.10774",
           true,
           {.sinks = 0, .recent = 0, .every = 0, .reading = Reading::by_bounds},
           kReadingParameters},
    Method{"infllm",
           "drops nothing: tokens read the first, the newest, and blocks of which a few keys fit",
           "Xiao et al. 2024, arXiv:2402.04617",
           true,
           {.sinks = 128,
            .recent = 512,
            .every = 0,
            .reading = Reading::by_representatives,
            .full_layers = 0},
           kRetrieveParameters},
};

const Parameter* find_parameter(std::string_view name) {
  const auto it = std::find_if(kParameters.begin(), kParameters.end(),
                               [name](const Parameter& p) { return p.name == name; });
  return it == kParameters.end() ? nullptr : &*it;
}

std::string joined(std::span<const std::string_view> names) {
  std::string text;
  for (const std::string_view name : names) text.append(text.empty() ? "" : ", ").append(name);
  return text;
}

/// "heads=FILE".
Result<void> set_heads(const Method& method, std::string_view path, Policy& policy,
                       std::string* heads) {
  if (!takes_heads(method.policy)) {
    return fail(Errc::invalid_argument,
                "kv-policy: {} cannot have heads=FILE: it deals its rows out to heads by itself, "
                "or decides for a whole layer",
                method.name);
  }
  if (heads == nullptr) {
    return fail(Errc::invalid_argument, "kv-policy: heads=FILE of {} cannot be named here",
                method.name);
  }
  if (path.empty()) {
    return fail(Errc::invalid_argument, "kv-policy: heads of {} names no file", method.name);
  }
  *heads = path;
  if (policy.head_file == HeadFile::none) policy.head_file = HeadFile::shares;
  return {};
}

Result<void> assign(const Method& method, std::string_view assignment, Policy& policy,
                    std::string* heads) {
  const std::size_t equals = assignment.find('=');
  const std::string_view name = assignment.substr(0, equals);
  const std::string_view value =
      equals == std::string_view::npos ? std::string_view{} : assignment.substr(equals + 1);
  if (name == "heads") return set_heads(method, value, policy, heads);
  if (std::find(method.parameters.begin(), method.parameters.end(), name) ==
      method.parameters.end()) {
    return fail(Errc::invalid_argument, "kv-policy: {} has no parameter '{}'; it has: {}",
                method.name, name, joined(method.parameters));
  }
  return set_parameter(policy, name, value, fmt::format("kv-policy: {}", method.name));
}

/// "NAME:PARAMETER=VALUE,...", each value on its own.
Result<Policy> parse_parameters(std::string_view text, std::string* heads) {
  const std::size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  const Method* method = find_method(name);
  if (method == nullptr) {
    std::string known;
    for (const Method& m : kMethods) known.append(known.empty() ? "" : ", ").append(m.name);
    return fail(Errc::invalid_argument, "kv-policy '{}' is not known; there are: {}", name, known);
  }
  Policy policy = method->policy;
  if (colon == std::string_view::npos) return policy;
  std::string_view rest = text.substr(colon + 1);
  while (true) {
    const std::size_t comma = rest.find(',');
    LARDER_TRY(assign(*method, rest.substr(0, comma), policy, heads));
    if (comma == std::string_view::npos) return policy;
    rest.remove_prefix(comma + 1);
  }
}

}  // namespace

std::span<const Method> methods() noexcept { return kMethods; }

const Method* find_method(std::string_view name) noexcept {
  const auto it = std::find_if(kMethods.begin(), kMethods.end(),
                               [name](const Method& method) { return method.name == name; });
  return it == kMethods.end() ? nullptr : &*it;
}

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
  if (known == nullptr) {
    return fail(Errc::invalid_argument, "{}: there is no parameter '{}'; there are: {}", where,
                name, joined(parameters()));
  }
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc{} || end != value.data() + value.size() || number < known->min ||
      number > known->max) {
    return fail(Errc::invalid_argument, "{}: {} must be from {} to {}, not '{}'", where, name,
                known->min, known->max, value);
  }
  policy.*known->value = number;
  return {};
}

Result<Policy> parse_policy(std::string_view text, std::string* heads) {
  LARDER_ASSIGN(const Policy policy, parse_parameters(text, heads));
  LARDER_TRY(check_policy(policy, fmt::format("kv-policy '{}'", text)));
  return policy;
}

}  // namespace larder
