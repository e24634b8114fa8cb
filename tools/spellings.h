// Flags of llama.cpp with one dash and several letters, which CLI11 would read as a cluster.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace larder {

/// The arguments after the program's name, the last first (as CLI::App::parse wants them), with
/// spellings like "-ctk" or "-np=4" replaced by their long names. Everything after "--" is kept.
std::vector<std::string> reversed_arguments(int argc, const char* const* argv);

/// "-ctk" for "--cache-type-k"; empty when there is none.
std::string_view dashed_spelling(std::string_view long_name);

}  // namespace larder
