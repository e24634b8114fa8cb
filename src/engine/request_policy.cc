#include "engine/request_policy.h"

#include <string>
#include <string_view>
#include <utility>

#include "base/fail.h"
#include "policy/methods.h"

namespace larder {
namespace {

Result<void> check_length(std::string_view field, const std::optional<std::string>& text,
                          std::size_t max_bytes) {
  if (!text || text->size() <= max_bytes) return {};
  return fail(Errc::invalid_argument, "{} has {} bytes, at most {} are allowed", field,
              text->size(), max_bytes);
}

bool reads_in_part(const std::optional<EvictionOptions>& eviction) {
  return eviction && eviction->policy.reading != Reading::all;
}

/// A method with its parameters; files are not looked at.
Result<EvictionOptions> named_policy(const std::string& text) {
  if (text.ends_with(".yaml")) {
    return fail(Errc::invalid_argument,
                "kv_policy '{}' is a file, and a request names methods and parameters only", text);
  }
  EvictionOptions eviction;
  LARDER_ASSIGN(eviction.policy, parse_policy(text));
  eviction.policy_text = text;
  if (eviction.policy.head_file == HeadFile::none) return eviction;
  return fail(Errc::invalid_argument,
              "kv_policy '{}' needs weights of heads, and a request names no files: it can only "
              "have this policy if the server has it, by saying nothing",
              text);
}

/// The policy alone; the budget is the engine's, if it has one.
Result<EvictionOptions> choose_policy(const Request& request,
                                      const std::optional<EvictionOptions>& own) {
  if (!request.kv_policy || (own && *request.kv_policy == own->policy_text)) {
    if (own) return *own;
    return fail(Errc::invalid_argument,
                "kv_keep is '{}', but there is no kv_policy, neither the request's nor the "
                "server's",
                *request.kv_keep);
  }
  LARDER_ASSIGN(EvictionOptions eviction, named_policy(*request.kv_policy));
  if (own) {
    eviction.budget = own->budget;
    eviction.keep_text = own->keep_text;
  }
  return eviction;
}

Result<void> choose_budget(const Request& request, const KvOptions& options,
                           EvictionOptions& eviction) {
  if (request.kv_keep && options.keep_total_bytes != 0) {
    return fail(Errc::unsupported,
                "kv_keep is '{}', but this server keeps {} bytes of all sequences together, of "
                "which each has its part",
                *request.kv_keep, options.keep_total_bytes);
  }
  const bool has_own_measure =
      eviction.policy.head_file == HeadFile::classes || eviction.policy.fits_patterns;
  if (options.keep_total_bytes != 0 && has_own_measure) {
    return fail(Errc::unsupported,
                "kv_policy '{}' cannot be had here: its heads keep as many rows as they need, and "
                "this server keeps {} bytes of all sequences together",
                eviction.policy_text, options.keep_total_bytes);
  }
  if (request.kv_keep) {
    LARDER_ASSIGN(eviction.budget, parse_keep(*request.kv_keep));
    eviction.keep_text = *request.kv_keep;
  }
  if (!eviction.keep_text.empty()) return check_eviction(eviction);
  return fail(Errc::invalid_argument,
              "kv_policy '{}' needs a kv_keep: tokens, a share of the prompt as 0.25, or bytes as "
              "64M",
              eviction.policy_text);
}

Result<PolicyChoice> keep_all(const Request& request, const KvOptions& options,
                              const std::optional<EvictionOptions>& own) {
  if (request.kv_keep) {
    return fail(Errc::invalid_argument, "kv_keep is '{}', but with kv_policy '{}' every row stays",
                *request.kv_keep, *request.kv_policy);
  }
  if (options.keep_total_bytes != 0) {
    return fail(Errc::unsupported,
                "kv_policy '{}' cannot be had here: this server keeps {} bytes of all sequences "
                "together, of which each has its part",
                *request.kv_policy, options.keep_total_bytes);
  }
  if (!reads_in_part(own)) return PolicyChoice{.is_own = !own, .eviction = std::nullopt};
  return fail(Errc::unsupported,
              "kv_policy '{}' cannot be had here: under '{}' of this server all requests read in "
              "part",
              *request.kv_policy, own->policy_text);
}

}  // namespace

Result<PolicyChoice> policy_choice(const Request& request, const KvOptions& options,
                                   const std::optional<EvictionOptions>& own) {
  if (!request.kv_policy && !request.kv_keep) return PolicyChoice{};
  LARDER_TRY(check_length("kv_policy", request.kv_policy, Request::kMaxPolicyBytes));
  LARDER_TRY(check_length("kv_keep", request.kv_keep, Request::kMaxKeepBytes));
  const bool says_something = request.kv_policy && !request.kv_policy->empty();
  if (says_something && names_no_policy(*request.kv_policy)) {
    return keep_all(request, options, own);
  }
  LARDER_ASSIGN(EvictionOptions eviction, choose_policy(request, own));
  LARDER_TRY(choose_budget(request, options, eviction));
  const bool is_own = own && eviction.policy == own->policy && eviction.budget == own->budget;
  if (is_own) return PolicyChoice{};
  if (!reads_in_part(own) && eviction.policy.reading == Reading::all) {
    return PolicyChoice{.is_own = false, .eviction = std::move(eviction)};
  }
  return fail(Errc::unsupported,
              "kv_policy '{}' with kv_keep '{}' cannot be had here: methods that read in part have "
              "marks in all blocks of the cache, so that all requests of a server read so or none, "
              "and this one {}",
              eviction.policy_text, eviction.keep_text,
              own ? "has " + own->policy_text + " with " + own->keep_text : "has none");
}

Error in_words_of_requests(Error error) {
  constexpr std::pair<std::string_view, std::string_view> kWords[] = {{"kv-policy", "kv_policy"},
                                                                      {"kv-keep", "kv_keep"}};
  for (const auto& [ours, theirs] : kWords) {
    for (std::size_t at = 0; (at = error.message.find(ours, at)) != std::string::npos;) {
      error.message.replace(at, ours.size(), theirs);
      at += theirs.size();
    }
  }
  return error;
}

}  // namespace larder
