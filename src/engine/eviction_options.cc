#include "engine/eviction_options.h"

#include <sys/stat.h>

#include <fstream>
#include <iterator>

#include "base/fail.h"
#include "policy/methods.h"
#include "policy/policy_file.h"

namespace larder {
namespace {

constexpr std::size_t kMaxHeadsBytes = 1 << 24;

/// A small regular file, never a pipe.
Result<std::string> read_file(const std::string& path, std::size_t max_bytes) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) {
    return fail(Errc::not_found, "kv-policy: cannot read '{}'", path);
  }
  if (!S_ISREG(status.st_mode) || static_cast<std::uint64_t>(status.st_size) > max_bytes) {
    return fail(Errc::invalid_argument, "kv-policy: '{}' is no file of at most {} bytes", path,
                max_bytes);
  }
  std::ifstream in(path, std::ios::binary);
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad() || !in.is_open()) {
    return fail(Errc::io, "kv-policy: cannot read '{}'", path);
  }
  text.resize(static_cast<std::size_t>(in.gcount()));
  return text;
}

Result<void> read_policy(const std::string& name, EvictionOptions& eviction) {
  if (name.ends_with(".yaml")) {
    LARDER_ASSIGN(const std::string text, read_file(name, kMaxPolicyFileBytes));
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
  LARDER_ASSIGN(const std::string text, read_file(eviction.heads_path, kMaxHeadsBytes));
  LARDER_ASSIGN(eviction.heads, parse_head_weights(text, eviction.heads_path));
  return {};
}

}  // namespace

Result<std::optional<EvictionOptions>> eviction_options(const KvOptions& options) {
  if (options.policy.empty()) {
    if (options.keep.empty()) return std::nullopt;
    return fail(Errc::invalid_argument, "kv-keep is '{}', but there is no kv-policy", options.keep);
  }
  EvictionOptions eviction;
  LARDER_TRY(read_policy(options.policy, eviction));
  if (options.keep.empty()) {
    return fail(Errc::invalid_argument,
                "kv-policy '{}' needs a kv-keep: tokens, a share of the prompt as 0.25, or bytes "
                "as 64M",
                options.policy);
  }
  LARDER_ASSIGN(eviction.budget, parse_keep(options.keep));
  if (eviction.budget.n_bytes != 0 && eviction.policy.head_file == HeadFile::classes) {
    return fail(Errc::invalid_argument,
                "kv-keep is '{}', but kv-policy '{}' keeps every row of some heads: name the rows "
                "of the others, in tokens or as a share of the prompt",
                options.keep, options.policy);
  }
  if (eviction.budget.n_bytes != 0 && eviction.policy.fits_patterns) {
    return fail(
        Errc::invalid_argument,
        "kv-keep is '{}', but with kv-policy '{}' each head keeps as many rows as it needs: "
        "name the rows of its frequent and of its near ones, in tokens or as a share of the "
        "prompt",
        options.keep, options.policy);
  }
  LARDER_TRY(check_budget(eviction.policy, eviction.budget));
  return eviction;
}

std::string eviction_text(const KvOptions& options) {
  const auto budget = parse_keep(options.keep);
  const char* of = !budget || budget->n_bytes != 0 ? "a sequence"
                   : budget->n_tokens == 0         ? "of the prompt"
                                                   : "rows";
  return fmt::format("{}, {} {} kept", options.policy, options.keep, of);
}

}  // namespace larder
