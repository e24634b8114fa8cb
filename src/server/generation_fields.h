// What the bodies of the generating paths have in common.
#pragma once

#include <cstdint>

#include "server/generation_request.h"
#include "server/json_input.h"

namespace larder {

inline constexpr std::int64_t kMaxId = INT32_MAX;
inline constexpr std::int64_t kMaxTopLogprobs = 20;

/// Of all of them; of those that write text.
void read_common_fields(FieldReader& fields, GenerationRequest& request);
void read_shared_fields(FieldReader& fields, GenerationRequest& request);
/// The conversation of a chat: messages, tools, and what else its template is told.
void read_conversation(FieldReader& fields, GenerationRequest& request);
/// The request, with the names of the fields that nobody read; or what was wrong.
ApiResult<GenerationRequest> finish_request(FieldReader& fields, GenerationRequest request);

}  // namespace larder
