// Shorthand for returning errors.
#pragma once

#include <fmt/format.h>

#include <utility>

#include "larder/result.h"

namespace larder {

/// `return fail(Errc::corrupt, "{}: tensor '{}' has no data", path, name);`
template <class... Args>
[[nodiscard]] tl::unexpected<Error> fail(Errc code, fmt::format_string<Args...> format,
                                         Args&&... args) {
  return tl::unexpected<Error>(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}

}  // namespace larder

/// Leaves the enclosing function with the error of `expr` (a `Result<void>` or `Result<T>`), if
/// any.
#define LARDER_TRY(expr)                                                      \
  do {                                                                        \
    if (auto larder_try_ = (expr); !larder_try_) {                            \
      return tl::unexpected<::larder::Error>(std::move(larder_try_).error()); \
    }                                                                         \
  } while (false)

#define LARDER_CONCAT_INNER(a, b) a##b
#define LARDER_CONCAT(a, b) LARDER_CONCAT_INNER(a, b)
/// `LARDER_ASSIGN(auto file, GgufFile::open(path));` declares `file` or leaves with the error.
#define LARDER_ASSIGN(declaration, expr) \
  LARDER_ASSIGN_INNER(LARDER_CONCAT(larder_result_, __LINE__), declaration, expr)
#define LARDER_ASSIGN_INNER(tmp, declaration, expr)                         \
  auto tmp = (expr);                                                        \
  if (!tmp) return tl::unexpected<::larder::Error>(std::move(tmp).error()); \
  declaration = std::move(*tmp)
