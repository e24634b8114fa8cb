// The strings and expectations in tests/data/tokenizers.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/text/tokenizer_data.h"

namespace larder {

struct TokenizerExpectation {
  std::uint32_t ids = 0;    // hash of the ids
  std::uint16_t text = 0;   // hash of what they decode to
  std::uint16_t mixed = 0;  // hash of what arbitrary ids decode to; 0: not compared
};

std::string tokenizer_fixture_path(std::string_view name);
std::string read_fixture(const std::string& path);
std::vector<std::string> fixture_strings();
std::vector<TokenizerExpectation> fixture_expectations(std::string_view name);

/// FNV-1a, 32 bits.
std::uint32_t fnv(std::string_view bytes);
std::uint32_t fnv(std::span<const TokenId> ids);

}  // namespace larder
