#include "sampling_flags.h"

#include <algorithm>
#include <random>

#include "flag_values.h"

namespace larder {
namespace {

/// The first that is set.
template <class T, class U>
void choose(T& target, const std::optional<T>& flag, const std::optional<U>& of_model) {
  if (flag) {
    target = *flag;
  } else if (of_model) {
    target = static_cast<T>(*of_model);
  }
}

std::uint64_t random_seed() { return std::random_device{}(); }

}  // namespace

void add_sampling_flags(CLI::App& app, SamplingFlags& flags) {
  const auto add = [&app](const char* names, auto& target, const char* help) {
    add_number(app, names, target, help)->group("Sampling");
  };
  add("--temp,--temperature", flags.temperature, "temperature; 0: always the likeliest token");
  add("--top-k", flags.top_k, "only the K likeliest tokens; 0: all");
  add("--top-p", flags.top_p, "only the likeliest tokens that make up P; 1: all");
  add("--min-p", flags.min_p, "only tokens at least P times as likely as the likeliest; 0: all");
  add("--repeat-penalty", flags.repetition_penalty, "penalty on tokens that occurred; 1: none");
  add("--repeat-last-n", flags.penalty_window, "newest tokens that count for it");
  add("--presence-penalty", flags.presence_penalty, "subtracted once from tokens that occurred");
  add("--frequency-penalty", flags.frequency_penalty, "subtracted for each time they occurred");
  add("-s,--seed", flags.seed, "the same seed gives the same text; -1: drawn at random");
  const std::function<void(const std::vector<std::string>&)> take =
      [&flags](const std::vector<std::string>& texts) {
        for (const std::string& text : texts) {
          const auto bias = parse_logit_bias(text);
          if (!bias) throw CLI::ValidationError("--logit-bias", bias.error().message);
          flags.logit_bias.push_back(*bias);
        }
      };
  app.add_option_function<std::vector<std::string>>(
         "--logit-bias", take, "added to the logit of a token, e.g. 15043=-2 (repeatable)")
      ->type_name("ID=VALUE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->group("Sampling");
}

SamplingOptions resolve_sampling(const SamplingFlags& flags, const GenerationDefaults& defaults) {
  constexpr std::optional<float> kNotInModels;
  SamplingOptions options;
  choose(options.temperature, flags.temperature, defaults.temperature);
  choose(options.top_p, flags.top_p, defaults.top_p);
  choose(options.min_p, flags.min_p, defaults.min_p);
  choose(options.repetition_penalty, flags.repetition_penalty, defaults.repetition_penalty);
  choose(options.presence_penalty, flags.presence_penalty, kNotInModels);
  choose(options.frequency_penalty, flags.frequency_penalty, kNotInModels);
  choose(options.penalty_window, flags.penalty_window, kNotInModels);
  std::optional<std::int32_t> top_k = defaults.top_k;
  if (top_k) top_k = std::max(*top_k, 0);  // files say -1 for "all" as well
  choose(options.top_k, flags.top_k, top_k);
  options.logit_bias = flags.logit_bias;
  const bool given = flags.seed && *flags.seed >= 0;
  options.seed = given ? static_cast<std::uint64_t>(*flags.seed) : random_seed();
  return options;
}

}  // namespace larder
