// Bodies of requests: nothing crashes, and what is accepted keeps the limits.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "server/generation_request.h"

namespace {

void check(const larder::ApiResult<larder::GenerationRequest>& parsed) {
  if (!parsed) {
    LARDER_CHECK(parsed.error().status == 400 && !parsed.error().message.empty());
    LARDER_CHECK(!larder::error_json(parsed.error()).empty());
    return;
  }
  LARDER_CHECK(parsed->n >= 1 && parsed->n <= 128);
  LARDER_CHECK(parsed->stop.size() <= 16);
  LARDER_CHECK(parsed->n_logprobs >= -1 && parsed->n_logprobs <= 20);
  LARDER_CHECK(parsed->chat ? !parsed->messages.empty() : !parsed->prompts.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  check(larder::parse_completion_request(body));
  check(larder::parse_chat_request(body));
  check(larder::parse_embedding_request(body));
  return 0;
}
