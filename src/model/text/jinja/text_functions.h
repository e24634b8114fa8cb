// String operations that filters and methods share.
#pragma once

#include <string_view>

#include "model/text/jinja/value.h"

namespace larder::jinja {

/// str.replace; `count` < 0: all.
Result<Value> replace_text(std::string_view text, std::string_view from, std::string_view to,
                           std::int64_t count, Budget& budget);
/// separator.join(str(item) for item in items).
Result<Value> join_texts(std::string_view separator, const std::vector<Value>& items,
                         Budget& budget);
/// str.split and str.rsplit at `separator`; null: at runs of white space. `limit` < 0: none.
Result<Value> split_text(std::string_view text, const std::string* separator, std::int64_t limit,
                         bool from_right, Budget& budget);

}  // namespace larder::jinja
