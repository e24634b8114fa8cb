// Values of a policy that make no sense together.
#include "base/fail.h"
#include "policy/methods.h"

namespace larder {

bool takes_heads(const Policy& policy) noexcept {
  return !policy.splits_heads && !policy.joins_heads && !policy.fits_patterns &&
         policy.allocation == Allocation::uniform &&
         policy.sink_distance == SinkDistance::in_text && policy.reading == Reading::all;
}

Result<void> check_policy(const Policy& policy, std::string_view where) {
  if (policy.kernel % 2 == 0) {
    return fail(Errc::invalid_argument, "{}: kernel must be odd, not {}", where, policy.kernel);
  }
  if (policy.kernel > 1 && policy.recent < policy.window) {
    return fail(Errc::invalid_argument,
                "{}: recent is {}, but the rows of the {} queries of the window stay in any case "
                "where scores are pooled: recent must be window or more",
                where, policy.recent, policy.window);
  }
  if (policy.rise_percent != 0 && policy.window == 0) {
    return fail(Errc::invalid_argument, "{}: rise-percent needs a window", where);
  }
  if ((policy.counting == Counting::largest) != (policy.chunk != 0)) {
    return fail(Errc::invalid_argument,
                "{}: chunk is {}: the largest weight counts of queries that read the prompt again, "
                "so counting: largest and a chunk above 0 go together",
                where, policy.chunk);
  }
  if (policy.merging == Merging::in_runs && policy.recent_percent + policy.heavy_percent > 100) {
    return fail(Errc::invalid_argument,
                "{}: recent-percent {} and heavy-percent {} are more than the budget, of which "
                "they are parts",
                where, policy.recent_percent, policy.heavy_percent);
  }
  if (policy.chunk != 0 && (policy.every != 0 || !policy.at_prompt_end || policy.window != 0)) {
    return fail(
        Errc::invalid_argument,
        "{}: chunk goes with every: 0, window: 0 and at-prompt-end: true, for the prompt is "
        "read again when it ends, and rows go then",
        where);
  }
  if (policy.fits_patterns && (policy.every != 0 || !policy.at_prompt_end)) {
    return fail(Errc::invalid_argument,
                "{}: patterns go with every: 0 and at-prompt-end: true, for heads get theirs when "
                "the prompt ends",
                where);
  }
  if (policy.merging == Merging::in_runs && (policy.every != 0 || !policy.at_prompt_end)) {
    return fail(
        Errc::invalid_argument,
        "{}: merging in runs goes with every: 0 and at-prompt-end: true, for keys are turned "
        "to each other's positions, which rows have as long as none was dropped",
        where);
  }
  if (policy.every != 0 || policy.at_prompt_end) return {};
  return fail(Errc::invalid_argument, "{} never drops a row: every must not be 0", where);
}

}  // namespace larder
