#include "store/block_store.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/fail.h"

namespace larder {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::size_t page_size() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }

std::size_t round_up(std::size_t n, std::size_t unit) { return (n + unit - 1) / unit * unit; }

}  // namespace

Result<BlockStore> BlockStore::create(std::size_t range_bytes) {
  if (range_bytes == 0) return fail(Errc::invalid_argument, "KV memory: a range of 0 bytes");
  const std::size_t mapped = round_up(range_bytes, page_size());
  // One huge page more, so that the range can begin on a huge page border.
  const std::size_t asked = mapped + kHugePage;
  void* raw = MAP_FAILED;
  if (asked > range_bytes) {
    raw = mmap(nullptr, asked, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
               -1, 0);
  }
  if (raw == MAP_FAILED) {
    return fail(Errc::unavailable, "KV memory: cannot reserve a range of {} bytes: {}", range_bytes,
                std::strerror(errno));
  }
  auto* begin = static_cast<std::byte*>(raw);
  const auto address = reinterpret_cast<std::uintptr_t>(raw);
  const std::size_t skipped = round_up(address, kHugePage) - address;
  if (skipped > 0) munmap(begin, skipped);
  if (skipped < kHugePage) munmap(begin + skipped + mapped, kHugePage - skipped);
  // Advice: without huge pages attention is slower, not wrong.
  madvise(begin + skipped, mapped, MADV_HUGEPAGE);
  return BlockStore(begin + skipped, range_bytes);
}

BlockStore::~BlockStore() {
  if (base_ != nullptr) munmap(base_, round_up(size_, page_size()));
}

BlockStore::BlockStore(BlockStore&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)), size_(std::exchange(other.size_, 0)) {}

BlockStore& BlockStore::operator=(BlockStore&& other) noexcept {
  std::swap(base_, other.base_);
  std::swap(size_, other.size_);
  return *this;
}

void BlockStore::copy(BlockId from, BlockId to, std::size_t n) noexcept {
  LARDER_DCHECK(to_offset(from) + n <= size_ && to_offset(to) + n <= size_);
  std::memcpy(base_ + to_offset(to), base_ + to_offset(from), n);
}

void BlockStore::discard(std::size_t offset, std::size_t n) noexcept {
  LARDER_CHECK(offset <= size_ && n <= size_ - offset);
  const std::size_t page = page_size();
  const std::size_t begin = round_up(offset, page);
  const std::size_t end = (offset + n) / page * page;
  if (begin < end) madvise(base_ + begin, end - begin, MADV_DONTNEED);
}

}  // namespace larder
