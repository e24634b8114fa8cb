// What malloc keeps of memory that was let go.
#pragma once

namespace larder {

/// Once, before threads are made; for the whole process. From here on large blocks go back to the
/// system when they are freed, and no heap keeps more than 2 MiB at its end. Without it malloc
/// takes the largest block that it has seen for what it should keep. Nothing but on glibc.
void keep_heap_small();

/// Gives back what large work has left free between other blocks.
/// Thread-safe.
void give_memory_back();

}  // namespace larder
