#include "server/heap.h"

#include <malloc.h>

namespace larder {

void keep_heap_small() {
#ifdef __GLIBC__
  // A step of the engine allocates nothing of this size: what does is requests and loading.
  constexpr int kLargeBlock = 2 << 20;
  mallopt(M_MMAP_THRESHOLD, kLargeBlock);
  // malloc_trim leaves the ends of other heaps than the first alone; this does not.
  mallopt(M_TRIM_THRESHOLD, kLargeBlock);
#endif
}

void give_memory_back() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

}  // namespace larder
