// Formats of layers from a file, for flags.
#pragma once

#include <string>
#include <string_view>

#include "larder/result.h"

namespace larder {

/// The value of --kv-layers: `text` itself, or with "@FILE" what the file says, as one list. The
/// file has entries like 0-1:bf16 or 2-:rot4/int4, apart by line ends, blanks or commas; behind `#`
/// a line says nothing. Errors: those of read_text_file; invalid_argument for a file that is too
/// large or has no entry.
Result<std::string> read_layer_formats(std::string_view text);

}  // namespace larder
