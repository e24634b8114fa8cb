// How fast this machine's cores read memory together: the limit that decoding is compared with.
#pragma once

#include <cstdint>

namespace larder {

/// Bytes per second of `n_threads` threads that read 1 GiB of memory in huge pages once, front to
/// back, each its own part; the best of five passes. Takes about a second. 0 when the memory cannot
/// be had.
double read_bandwidth(std::uint32_t n_threads);

}  // namespace larder
