// The metadata part of a GGUF file.
#pragma once

#include "model/io/gguf.h"
#include "model/io/gguf_cursor.h"

namespace larder {

/// Reads `n_entries` keys with their values into `metadata`. Errors: corrupt, unsupported.
Result<void> read_gguf_metadata(GgufCursor& cursor, std::uint64_t n_entries,
                                GgufMetadata& metadata);

}  // namespace larder
