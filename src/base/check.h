// Checks for bugs: message and abort. Never for what a user, file or peer can cause (see result.h).
#pragma once

namespace larder {

[[noreturn]] void check_failed(const char* expression, const char* file, int line) noexcept;

}  // namespace larder

#define LARDER_CHECK(expression) \
  ((expression) ? static_cast<void>(0) : ::larder::check_failed(#expression, __FILE__, __LINE__))

#ifdef NDEBUG
#define LARDER_DCHECK(expression) static_cast<void>(0)
#else
#define LARDER_DCHECK(expression) LARDER_CHECK(expression)
#endif
