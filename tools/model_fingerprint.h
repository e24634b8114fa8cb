// Telling models apart without reading them whole.
#pragma once

#include <string>
#include <string_view>

#include "model/io/model_source.h"

namespace larder {

/// FNV-1a, 64 bits, as 16 hexadecimal digits.
std::string text_fingerprint(std::string_view text);

/// Of the family, the tensors' names, types and shapes, and of the first and last 4096 bytes of
/// each: models that were trained, converted or quantised differently differ there.
std::string model_fingerprint(const ModelSource& source);

}  // namespace larder
