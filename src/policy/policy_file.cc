#include "policy/policy_file.h"

#include <fmt/ranges.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <exception>
#include <span>
#include <sstream>
#include <vector>

#include "base/fail.h"
#include "base/printable.h"
#include "policy/key_readers.h"
#include "policy/methods.h"

namespace larder {
namespace {

template <class E>
struct Word {
  std::string_view text;
  E value;
};

constexpr std::array kScores = {
    Word<Score>{"position", Score::position},
    Word<Score>{"random", Score::random},
    Word<Score>{"key-norm", Score::key_norm},
    Word<Score>{"key-spread", Score::key_spread},
    Word<Score>{"attention", Score::attention},
    Word<Score>{"expected-attention", Score::expected_attention},
};
constexpr std::array kCountings = {
    Word<Counting>{"weight", Counting::weight},
    Word<Counting>{"unimportant", Counting::unimportant},
    Word<Counting>{"noisy", Counting::noisy},
    Word<Counting>{"largest", Counting::largest},
};
constexpr std::array kAllocations = {
    Word<Allocation>{"uniform", Allocation::uniform},
    Word<Allocation>{"pyramid", Allocation::pyramid},
};
constexpr std::array kSinkDistances = {
    Word<SinkDistance>{"in-text", SinkDistance::in_text},
    Word<SinkDistance>{"in-cache", SinkDistance::in_cache},
    Word<SinkDistance>{"capped", SinkDistance::capped},
};
constexpr std::array kMergings = {
    Word<Merging>{"none", Merging::none},
    Word<Merging>{"shared-out", Merging::shared_out},
    Word<Merging>{"to-likest", Merging::to_likest},
    Word<Merging>{"in-runs", Merging::in_runs},
};
constexpr std::array kReadings = {
    Word<Reading>{"all", Reading::all},
    Word<Reading>{"by-bounds", Reading::by_bounds},
    Word<Reading>{"by-representatives", Reading::by_representatives},
};
constexpr std::array kBools = {Word<bool>{"true", true}, Word<bool>{"false", false}};
enum class HeadsGet : std::uint8_t { alike, by_score, by_file, all_or_alike, by_pattern };
constexpr std::array kHeadsGet = {
    Word<HeadsGet>{"alike", HeadsGet::alike},
    Word<HeadsGet>{"by-score", HeadsGet::by_score},
    Word<HeadsGet>{"by-file", HeadsGet::by_file},
    Word<HeadsGet>{"all-or-alike", HeadsGet::all_or_alike},
    Word<HeadsGet>{"by-pattern", HeadsGet::by_pattern},
};

// Beside the parameters.
constexpr std::string_view kKeys[] = {"method",        "score",     "counting", "allocation",
                                      "sink-distance", "merging",   "reading",  "at-prompt-end",
                                      "joins-heads",   "heads-get", "heads"};

struct Entry {
  std::string where;  // "FILE, line 3"
  std::string name, value;
};

template <class E, std::size_t n>
Result<void> set_word(const Entry& entry, const std::array<Word<E>, n>& words, E& to) {
  std::string known;
  for (const Word<E>& word : words) {
    if (word.text == entry.value) {
      to = word.value;
      return {};
    }
    known.append(known.empty() ? "" : ", ").append(word.text);
  }
  return fail(Errc::invalid_argument, "{}: {} must be one of {}, not '{}'", entry.where, entry.name,
              known, printable(entry.value));
}

Result<void> set_heads_get(const Entry& entry, Policy& policy) {
  HeadsGet get = HeadsGet::alike;
  LARDER_TRY(set_word(entry, kHeadsGet, get));
  policy.splits_heads = get == HeadsGet::by_score;
  policy.fits_patterns = get == HeadsGet::by_pattern;
  policy.head_file = get == HeadsGet::by_file        ? HeadFile::shares
                     : get == HeadsGet::all_or_alike ? HeadFile::classes
                                                     : HeadFile::none;
  return {};
}

Result<void> set_entry(const Entry& entry, PolicyFile& file) {
  Policy& policy = file.policy;
  if (entry.name == "method") return {};
  if (entry.name == "score") return set_word(entry, kScores, policy.score);
  if (entry.name == "counting") return set_word(entry, kCountings, policy.counting);
  if (entry.name == "allocation") return set_word(entry, kAllocations, policy.allocation);
  if (entry.name == "sink-distance") return set_word(entry, kSinkDistances, policy.sink_distance);
  if (entry.name == "merging") return set_word(entry, kMergings, policy.merging);
  if (entry.name == "reading") return set_word(entry, kReadings, policy.reading);
  if (entry.name == "at-prompt-end") return set_word(entry, kBools, policy.at_prompt_end);
  if (entry.name == "joins-heads") return set_word(entry, kBools, policy.joins_heads);
  if (entry.name == "heads-get") return set_heads_get(entry, policy);
  if (entry.name == "heads") {
    const auto is_control = [](unsigned char c) { return c < ' ' || c == 0x7f; };
    if (std::any_of(entry.value.begin(), entry.value.end(), is_control)) {
      return fail(Errc::invalid_argument, "{}: heads is no path: '{}'", entry.where,
                  printable(entry.value));
    }
    file.heads = entry.value;
    return {};
  }
  const auto known = parameters();
  if (std::find(known.begin(), known.end(), entry.name) == known.end()) {
    return fail(Errc::invalid_argument, "{}: there is no '{}'; there are: {}, {}", entry.where,
                printable(entry.name), fmt::join(kKeys, ", "), fmt::join(known, ", "));
  }
  return set_parameter(policy, entry.name, entry.value, entry.where);
}

/// What no score or budget reads.
Result<void> check_read(const Entry& entry, const Policy& policy) {
  const std::string_view readers = missing_reader(policy, entry.name);
  if (readers.empty()) return {};
  return fail(Errc::invalid_argument, "{}: {} is read by nothing here: it goes with {}",
              entry.where, entry.name, readers);
}

/// Whether it names anything that decides which rows stay, or which are read in any case, but
/// does not go with the reading.
bool drops_rows(const Policy& policy) {
  const bool protects = policy.reading == Reading::by_bounds && policy.sinks + policy.recent != 0;
  return policy.score != Score::position || protects || policy.every != 0 || policy.splits_heads ||
         policy.head_file != HeadFile::none || policy.allocation != Allocation::uniform ||
         policy.merging != Merging::none || policy.sink_distance != SinkDistance::in_text;
}

/// What no score or budget would make sense of.
Result<void> check_mixture(const PolicyFile& file, const std::string& origin) {
  const Policy& policy = file.policy;
  const bool apart =
      policy.splits_heads || policy.fits_patterns || policy.head_file != HeadFile::none;
  Policy alike = policy;
  alike.splits_heads = alike.fits_patterns = false;
  const char* problem = nullptr;
  if (policy.score != Score::attention &&
      (policy.counting != Counting::weight || policy.window != 0 || policy.kernel != 1 ||
       policy.joins_heads || policy.rise_percent != 0 || policy.chunk != 0)) {
    problem =
        "counting, window, rise-percent, kernel, joins-heads and chunk go with score: attention";
  } else if (policy.fits_patterns &&
             (policy.score != Score::attention || policy.counting != Counting::weight ||
              policy.window != 0 || policy.kernel != 1 || policy.chunk != 0)) {
    problem =
        "heads-get: by-pattern goes with score: attention, counting: weight and neither window, "
        "kernel nor chunk";
  } else if (policy.merging == Merging::shared_out && policy.score != Score::attention) {
    problem = "merging: shared-out goes with score: attention";
  } else if (policy.merging == Merging::in_runs && apart) {
    problem = "merging: in-runs goes with heads-get: alike";
  } else if (policy.merging != Merging::none && policy.sink_distance != SinkDistance::in_text) {
    problem = "merging goes with sink-distance: in-text";
  } else if (apart && !takes_heads(alike)) {
    problem =
        "heads that get different budgets go with joins-heads: false, allocation: uniform and "
        "sink-distance: in-text";
  } else if ((policy.head_file != HeadFile::none) != !file.heads.empty()) {
    problem = "heads-get: by-file or all-or-alike and heads: FILE go together";
  } else if (policy.score == Score::position && (policy.splits_heads)) {
    problem = "heads-get: by-score has no scores to compare with score: position";
  } else if (policy.sink_distance == SinkDistance::capped && policy.score != Score::position) {
    problem = "sink-distance: capped goes with score: position";
  } else if (policy.sink_distance != SinkDistance::in_text && policy.sinks == 0) {
    problem = "sink-distance needs sinks";
  }
  if (problem == nullptr && policy.reading != Reading::all && drops_rows(policy)) {
    problem =
        "a reading drops no rows: begin with method: quest or infllm, and name its parameters "
        "only";
  }
  if (problem == nullptr) return check_policy(policy, origin);
  return fail(Errc::invalid_argument, "{}: {}", origin, problem);
}

/// Hears of a document and remembers nothing.
class Deaf : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

/// Looks at two at most: behind a stray comma the library finds empty ones without end.
bool has_one_document(const std::string& text) {
  std::istringstream in(text);
  YAML::Parser parser(in);
  Deaf handler;
  return parser.HandleNextDocument(handler) && !parser.HandleNextDocument(handler);
}

Result<std::vector<Entry>> read_entries(std::string_view text, const std::string& origin) {
  try {
    const std::string copy(text);
    const YAML::Node document = has_one_document(copy) ? YAML::Load(copy) : YAML::Node();
    if (!document.IsMap()) {
      return fail(Errc::invalid_argument, "{}: is not one mapping of names to values", origin);
    }
    std::vector<Entry> entries;
    for (const auto& entry : document) {
      const std::string where = fmt::format("{}, line {}", origin, entry.first.Mark().line + 1);
      if (!entry.first.IsScalar() || !entry.second.IsScalar()) {
        return fail(Errc::invalid_argument, "{}: is no name with one value", where);
      }
      for (const Entry& other : entries) {
        if (other.name != entry.first.Scalar()) continue;
        return fail(Errc::invalid_argument, "{}: '{}' is named twice", where,
                    printable(other.name));
      }
      entries.push_back({where, entry.first.Scalar(), entry.second.Scalar()});
    }
    return entries;
  } catch (const std::exception& e) {  // of the library's; none leaves this function
    return fail(Errc::invalid_argument, "{}: {}", origin, printable(e.what(), 256));
  }
}

}  // namespace

Result<PolicyFile> parse_policy_file(std::string_view text, const std::string& origin) {
  if (text.size() > kMaxPolicyFileBytes) {
    return fail(Errc::invalid_argument, "{}: has {} bytes, a policy has at most {}", origin,
                text.size(), kMaxPolicyFileBytes);
  }
  LARDER_ASSIGN(const std::vector<Entry> entries, read_entries(text, origin));
  PolicyFile file;
  for (const Entry& entry : entries) {
    if (entry.name != "method") continue;
    const Method* method = find_method(entry.value);
    if (method == nullptr) {
      return fail(Errc::invalid_argument, "{}: method '{}' is not known", entry.where,
                  printable(entry.value));
    }
    file.policy = method->policy;
  }
  for (const Entry& entry : entries) LARDER_TRY(set_entry(entry, file));
  for (const Entry& entry : entries) LARDER_TRY(check_read(entry, file.policy));
  LARDER_TRY(check_mixture(file, origin));
  return file;
}

}  // namespace larder
