#include "tensor/huge_arena.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/fail.h"

namespace larder {

Result<HugeArena> HugeArena::create(std::size_t n_bytes) {
  constexpr std::size_t kHugePage = std::size_t{2} << 20;
  HugeArena arena;
  if (n_bytes == 0) return arena;
  const std::size_t asked = n_bytes + kHugePage;  // so that it can begin on a huge page border
  void* raw = MAP_FAILED;
  if (asked > n_bytes) {
    raw = mmap(nullptr, asked, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
               -1, 0);
  }
  if (raw == MAP_FAILED) {
    return fail(Errc::unavailable, "weights: cannot reserve {} bytes: {}", n_bytes,
                std::strerror(errno));
  }
  arena.mapping_ = static_cast<std::byte*>(raw);
  arena.mapped_ = asked;
  const auto past = reinterpret_cast<std::uintptr_t>(raw) % kHugePage;
  arena.next_ = arena.mapping_ + (past == 0 ? 0 : kHugePage - past);
  arena.n_left_ = n_bytes;
  // Advice: small pages are slower, not wrong.
  madvise(arena.next_, n_bytes, MADV_HUGEPAGE);
  return arena;
}

HugeArena::~HugeArena() {
  if (mapping_ != nullptr) munmap(mapping_, mapped_);
}

HugeArena::HugeArena(HugeArena&& other) noexcept { *this = std::move(other); }

HugeArena& HugeArena::operator=(HugeArena&& other) noexcept {
  std::swap(mapping_, other.mapping_);
  std::swap(mapped_, other.mapped_);
  std::swap(next_, other.next_);
  std::swap(n_left_, other.n_left_);
  return *this;
}

std::byte* HugeArena::take(std::size_t n_bytes) {
  const std::size_t n = rounded(n_bytes);
  LARDER_CHECK(n <= n_left_);
  n_left_ -= n;
  return std::exchange(next_, next_ + n);
}

}  // namespace larder
