#include "engine/eviction_options.h"

#include <algorithm>

#include "base/fail.h"
#include "engine/small_file.h"
#include "policy/methods.h"
#include "policy/policy_file.h"

namespace larder {
namespace {

constexpr std::size_t kMaxHeadsBytes = 1 << 24;

Result<void> read_policy(const std::string& name, EvictionOptions& eviction) {
  if (name.ends_with(".yaml")) {
    LARDER_ASSIGN(const std::string text, read_small_file("kv-policy", name, kMaxPolicyFileBytes));
    LARDER_ASSIGN(PolicyFile file, parse_policy_file(text, name));
    eviction.policy = file.policy;
    eviction.heads_path = std::move(file.heads);
  } else {
    LARDER_ASSIGN(eviction.policy, parse_policy(name, &eviction.heads_path));
  }
  if (eviction.heads_path.empty()) {
    if (eviction.policy.head_file == HeadFile::none) return {};
    return fail(Errc::invalid_argument,
                "kv-policy '{}' needs heads=FILE: weights of this model's KV heads, such as "
                "`larder eval heads` writes",
                name);
  }
  LARDER_ASSIGN(const std::string text,
                read_small_file("kv-policy", eviction.heads_path, kMaxHeadsBytes));
  LARDER_ASSIGN(eviction.heads, parse_head_weights(text, eviction.heads_path));
  return {};
}

/// What clients may read of a policy: files without their folders.
std::string without_folders(std::string text) {
  constexpr std::string_view kHeads = "heads=";
  const std::size_t at = text.find(kHeads);
  const bool is_file = text.ends_with(".yaml");
  if (!is_file && at == std::string::npos) return text;
  const std::size_t begin = is_file ? 0 : at + kHeads.size();
  const std::size_t end = is_file ? text.size() : std::min(text.find(',', begin), text.size());
  const std::size_t slash = text.substr(0, end).rfind('/');
  if (slash != std::string::npos && slash >= begin) text.erase(begin, slash + 1 - begin);
  return text;
}

/// The part of one of `n_sequences` in a budget for all.
Result<void> share_total(std::uint64_t total_bytes, std::uint32_t n_sequences,
                         EvictionOptions& eviction) {
  eviction.keep_text = fmt::format("{} bytes", total_bytes / n_sequences);
  eviction.budget = {.n_bytes = total_bytes / n_sequences};
  if (eviction.budget.n_bytes != 0) return {};
  return fail(Errc::invalid_argument,
              "kv-keep-total is {} bytes, less than one for each of {} "
              "sequences",
              total_bytes, n_sequences);
}

}  // namespace

Result<std::optional<EvictionOptions>> eviction_options(const KvOptions& options,
                                                        std::uint32_t n_sequences) {
  const bool has_total = options.keep_total_bytes != 0;
  if (names_no_policy(options.policy)) {
    if (options.keep.empty() && !has_total) return std::nullopt;
    return has_total ? fail(Errc::invalid_argument,
                            "kv-keep-total is {} bytes, but there is no kv-policy",
                            options.keep_total_bytes)
                     : fail(Errc::invalid_argument, "kv-keep is '{}', but there is no kv-policy",
                            options.keep);
  }
  if (has_total && !options.keep.empty()) {
    return fail(Errc::invalid_argument,
                "kv-keep '{}' and kv-keep-total {} are two budgets: name one of them", options.keep,
                options.keep_total_bytes);
  }
  EvictionOptions eviction;
  eviction.policy_text = without_folders(options.policy);
  LARDER_TRY(read_policy(options.policy, eviction));
  if (options.keep.empty() && !has_total) {
    return fail(Errc::invalid_argument,
                "kv-policy '{}' needs a kv-keep: tokens, a share of the prompt as 0.25, or bytes "
                "as 64M",
                options.policy);
  }
  if (has_total) {
    LARDER_TRY(share_total(options.keep_total_bytes, n_sequences, eviction));
  } else {
    eviction.keep_text = options.keep;
    LARDER_ASSIGN(eviction.budget, parse_keep(options.keep));
  }
  LARDER_TRY(check_eviction(eviction));
  return eviction;
}

Result<void> check_eviction(const EvictionOptions& eviction) {
  if (eviction.budget.n_bytes != 0 && eviction.policy.head_file == HeadFile::classes) {
    return fail(Errc::invalid_argument,
                "kv-keep is '{}', but kv-policy '{}' keeps every row of some heads: name the rows "
                "of the others, in tokens or as a share of the prompt",
                eviction.keep_text, eviction.policy_text);
  }
  if (eviction.budget.n_bytes != 0 && eviction.policy.fits_patterns) {
    return fail(
        Errc::invalid_argument,
        "kv-keep is '{}', but with kv-policy '{}' each head keeps as many rows as it needs: "
        "name the rows of its frequent and of its near ones, in tokens or as a share of the "
        "prompt",
        eviction.keep_text, eviction.policy_text);
  }
  return check_budget(eviction.policy, eviction.budget);
}

std::string eviction_text(const EvictionOptions& eviction) {
  const KeepBudget& budget = eviction.budget;
  const char* of = budget.n_bytes != 0    ? "a sequence"
                   : budget.n_tokens == 0 ? "of the prompt"
                                          : "rows";
  return fmt::format("{}, {} {} kept", eviction.policy_text, eviction.keep_text, of);
}

}  // namespace larder
