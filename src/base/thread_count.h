// How many threads work, where the user may leave it open.
#pragma once

#include <algorithm>
#include <thread>

namespace larder {

/// `asked`, or one per core of the machine where that is 0.
inline unsigned thread_count(unsigned asked) {
  return asked != 0 ? asked : std::max(1U, std::thread::hardware_concurrency());
}

}  // namespace larder
