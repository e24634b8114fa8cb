#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace larder {

void check_failed(const char* expression, const char* file, int line) noexcept {
  std::fprintf(stderr, "larder: bug: check '%s' failed at %s:%d\n", expression, file, line);
  std::abort();
}

}  // namespace larder
