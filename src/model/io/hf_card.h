// The model card (README.md) of a Hugging Face directory.
#pragma once

#include <string>

namespace larder {

/// The value of "license:" in the block between "---" lines that a card begins with, such as
/// "apache-2.0"; empty when there is no card, no block or no such line.
std::string read_hf_license(const std::string& directory);

}  // namespace larder
