#include "read_bandwidth.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <vector>

#include "base/thread_pool.h"
#include "tensor/huge_arena.h"

namespace larder {
namespace {

constexpr std::size_t kLineWords = 8;  // 64 bytes
constexpr std::size_t kBytes = std::size_t{1} << 30;
constexpr std::size_t kLines = kBytes / (kLineWords * sizeof(std::uint64_t));
constexpr std::size_t kPieces = 64;  // handed out one by one
constexpr std::size_t kAhead = 32;   // lines; far enough to hide the latency of DRAM
constexpr int kPasses = 5;

/// Four sums keep the additions from binding; one word of a line brings the whole line.
std::uint64_t sum_lines(const std::uint64_t* words, std::size_t n_lines) {
  std::uint64_t sums[4] = {};
  for (std::size_t i = 0; i + 4 <= n_lines; i += 4) {
    for (std::size_t k = 0; k < 4; ++k) {
      const std::uint64_t* line = words + (i + k) * kLineWords;
      __builtin_prefetch(line + kAhead * kLineWords);
      sums[k] += line[0] + line[4];
    }
  }
  return sums[0] + sums[1] + sums[2] + sums[3];
}

}  // namespace

double read_bandwidth(std::uint32_t n_threads) {
  auto arena = HugeArena::create(kBytes);  // as the weights lie
  if (!arena) return 0;
  auto* const words = reinterpret_cast<std::uint64_t*>(arena->take(kBytes));
  std::fill_n(words, kLines * kLineWords, 1);
  ThreadPool pool(n_threads);
  std::vector<std::uint64_t> sums(kPieces);  // used below, so that the reads are not dropped
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto begin = std::chrono::steady_clock::now();
    pool.for_each(kPieces, [&](std::size_t piece, unsigned) {
      const std::size_t n_lines = kLines / kPieces;
      sums[piece] = sum_lines(words + piece * n_lines * kLineWords, n_lines);
    });
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    const bool read = *std::min_element(sums.begin(), sums.end()) > 0;
    if (read) best = std::max(best, static_cast<double>(kBytes) / took.count());
  }
  return best;
}

}  // namespace larder
