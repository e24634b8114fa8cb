// What tells one model's rows from another's.
#pragma once

#include <string>
#include <string_view>

#include "kv/prefix_tree.h"
#include "model/io/model_source.h"

namespace larder {

/// SHA-256 over the names, types, shapes and first bytes of all weights, and `format` (how rows are
/// stored). Weights that agree in all of these are taken for the same model.
StripeDigest cache_fingerprint(const ModelSource& source, std::string_view format);

/// The first 128 bits of a text's SHA-256 as hexadecimal digits.
std::string text_digest(std::string_view text);

}  // namespace larder
