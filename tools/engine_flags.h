// The flags of EngineOptions, the same for every command that opens a model.
#pragma once

#include <CLI/CLI.hpp>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "larder/options.h"

namespace larder {

/// Adds one flag per field of EngineOptions, under its own name and under the spellings of
/// llama.cpp and vLLM that mean the same, in the help group "Engine". Fields named in `except` are
/// left out. `options` must outlive the parsing.
void add_engine_flags(CLI::App& app, EngineOptions& options,
                      std::initializer_list<std::string_view> except = {});

/// "auto", "bfloat16" and "float16" of vLLM's --kv-cache-dtype in our words; others as they are.
std::string kv_format_name(std::string name);

/// One line per spelling that is accepted for the field, e.g. "-c,--ctx-size,--max-model-len".
std::string engine_flag_names(std::string_view field);

}  // namespace larder
