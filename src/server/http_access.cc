#include "server/http_access.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <boost/beast/core/string.hpp>
#include <utility>

#include "base/fail.h"

namespace larder {
namespace {

using boost::beast::iequals;

constexpr std::size_t kMostShown = 100;  // of what a stranger wrote

/// "host:port" of "scheme://host:port"; empty when it is no origin.
std::string_view authority_of(std::string_view origin) {
  const std::size_t at = origin.find("://");
  return at == std::string_view::npos ? std::string_view() : origin.substr(at + 3);
}

/// "name" of "name:port", "::1" of "[::1]:port".
std::string_view name_of(std::string_view host) {
  if (host.starts_with('[')) return host.substr(1, host.find(']') - 1);
  const std::size_t colon = host.find(':');
  if (colon != host.rfind(':')) return host;  // an IPv6 address without its brackets
  return host.substr(0, colon);
}

bool is_loopback(std::string_view name) {
  if (iequals(name, "localhost")) return true;
  boost::system::error_code error;
  const auto address = boost::asio::ip::make_address(std::string(name), error);
  return !error && address.is_loopback();
}

bool is_origin(std::string_view text) {
  if (text == "*" || text == "null") return true;
  const std::string_view authority = authority_of(text);
  return text.find("://") > 0 && !authority.empty() &&
         authority.find_first_of("/?#@, *") == std::string_view::npos;
}

ApiError foreign_host(std::string_view host) {
  return {
      403,
      fmt::format("on loopback this server is localhost, not '{}'; --allowed-origins changes it",
                  host.substr(0, kMostShown)),
      std::nullopt, "host_not_allowed"};
}

ApiError foreign_origin(std::string_view origin) {
  return {403,
          fmt::format("pages of '{}' may not ask this server; --allowed-origins changes it",
                      origin.substr(0, kMostShown)),
          std::nullopt, "origin_not_allowed"};
}

}  // namespace

Result<BrowserRules> BrowserRules::make(std::vector<std::string> allowed_origins) {
  for (const std::string& origin : allowed_origins) {
    if (is_origin(origin)) continue;
    return fail(Errc::invalid_argument,
                "allowed-origins is '{}', must be * or like https://example.com:8443", origin);
  }
  BrowserRules rules;
  rules.allowed_ = std::move(allowed_origins);
  rules.allows_all_ =
      std::find(rules.allowed_.begin(), rules.allowed_.end(), "*") != rules.allowed_.end();
  return rules;
}

std::optional<ApiError> BrowserRules::check(const Sender& sender, bool on_loopback) const {
  if (allows_all_) return std::nullopt;
  if (on_loopback && !sender.host.empty() && !knows_host(sender.host)) {
    return foreign_host(sender.host);
  }
  // The scheme is not compared: a proxy before this server may speak TLS for it.
  const bool is_own = !sender.host.empty() && iequals(authority_of(sender.origin), sender.host);
  if (sender.origin.empty() || is_own || allows(sender.origin)) return std::nullopt;
  return foreign_origin(sender.origin);
}

std::string BrowserRules::shared_with(std::string_view origin) const {
  if (origin.empty()) return {};
  if (allows_all_) return "*";
  return allows(origin) ? std::string(origin) : std::string();
}

bool BrowserRules::allows(std::string_view origin) const {
  return std::any_of(allowed_.begin(), allowed_.end(),
                     [&](const std::string& allowed) { return iequals(allowed, origin); });
}

bool BrowserRules::knows_host(std::string_view host) const {
  return is_loopback(name_of(host)) ||
         std::any_of(allowed_.begin(), allowed_.end(), [&](const std::string& allowed) {
           return iequals(authority_of(allowed), host);
         });
}

}  // namespace larder
