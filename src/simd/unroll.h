// LARDER_UNROLL before a loop over registers: GCC keeps an array of vectors in registers only when
// the loops over it are unrolled early, else it passes through the stack on entry and exit.
#pragma once

#if defined(__clang__)
#define LARDER_UNROLL _Pragma("unroll")
#else
#define LARDER_UNROLL _Pragma("GCC unroll 16")
#endif
