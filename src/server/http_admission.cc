#include "server/http_admission.h"

namespace larder {

Admission admit(const HttpContext& context, const Parser& parser, const Target& target) {
  const auto field = [&parser](http::field name) {
    const auto value = parser.get()[name];
    return std::string(value.data(), value.size());
  };
  const Sender sender{target.host.empty() ? field(http::field::host) : target.host,
                      field(http::field::origin)};
  Admission admission;
  admission.shared_with = context.browsers.shared_with(sender.origin);
  if (const auto refused = context.browsers.check(sender, context.on_loopback)) {
    admission.refused = error_reply(*refused);
    return admission;
  }
  admission.asks_leave = !admission.shared_with.empty() &&
                         parser.get().method() == http::verb::options &&
                         parser.get().count(http::field::access_control_request_method) > 0;
  if (admission.asks_leave || !needs_key(target.path)) return admission;
  if (context.keys.allow(field(http::field::authorization))) return admission;
  admission.refused =
      error_reply({401, "no valid API key is given", std::nullopt, "invalid_api_key"});
  admission.refused->headers.emplace_back("WWW-Authenticate", "Bearer");
  return admission;
}

HttpReply leave_reply() {
  return {200,
          "text/plain",
          {{"Access-Control-Allow-Methods", "GET, HEAD, POST"},
           {"Access-Control-Allow-Headers", "Authorization, Content-Type, *"},
           {"Access-Control-Max-Age", "600"}},
          {}};
}

}  // namespace larder
