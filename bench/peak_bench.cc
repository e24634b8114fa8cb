// What do the multipliers of one core do, with nothing to load? The limits of docs/performance.md.
//   build/release/bin/peak_bench
// `ops` counts a multiplication and an addition as two. Registers are named, for a compiler may
// keep variables of an `asm` in memory; values do not matter, zeros are as fast as others.
#include <benchmark/benchmark.h>

#include "simd/simd.h"

namespace {

constexpr int kChains = 12;  // independent sums, more than latency times issue rate
constexpr int kRounds = 4096;

#define LARDER_ONE(NAME, R, I) NAME " %%" R "13, %%" R "12, %%" R #I "\n\t"
#define LARDER_CHAINS(NAME, R)                                                                     \
  LARDER_ONE(NAME, R, 0)                                                                           \
  LARDER_ONE(NAME, R, 1)                                                                           \
  LARDER_ONE(NAME, R, 2)                                                                           \
  LARDER_ONE(NAME, R, 3) LARDER_ONE(NAME, R, 4) LARDER_ONE(NAME, R, 5) LARDER_ONE(NAME, R, 6)      \
      LARDER_ONE(NAME, R, 7) LARDER_ONE(NAME, R, 8) LARDER_ONE(NAME, R, 9) LARDER_ONE(NAME, R, 10) \
          LARDER_ONE(NAME, R, 11)

#define LARDER_PEAK_LOOP(FUNCTION, NAME, R)                                                      \
  void FUNCTION() {                                                                              \
    asm volatile("vzeroall" ::                                                                   \
                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",   \
                       "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");            \
    for (int round = 0; round < kRounds; ++round) {                                              \
      asm volatile(LARDER_CHAINS(NAME, R)::                                                      \
                       : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", \
                         "xmm9", "xmm10", "xmm11", "xmm12", "xmm13");                            \
    }                                                                                            \
  }

LARDER_PEAK_LOOP(int8_dot, "vpdpbusd", "zmm")
LARDER_PEAK_LOOP(bf16_dot, "vdpbf16ps", "zmm")
LARDER_PEAK_LOOP(f32_fma_512, "vfmadd231ps", "zmm")
LARDER_PEAK_LOOP(f32_fma_256, "vfmadd231ps", "ymm")

// Four sums, two tiles of A, two of B, all of 16 rows of 64 bytes; `BESIDE` follows each four.
#define LARDER_TILE_LOOP(FUNCTION, NAME, BESIDE)                                                  \
  void FUNCTION() {                                                                               \
    alignas(64) static const unsigned char kShapes[64] = {                                        \
        1,  0, 0,  0, 0,  0,  0,  0,  0,  0,  0,  0,  0, 0, 0, 0, 64, 0, 64, 0, 64, 0,            \
        64, 0, 64, 0, 64, 0,  64, 0,  64, 0,  0,  0,  0, 0, 0, 0, 0,  0, 0,  0, 0,  0,            \
        0,  0, 0,  0, 16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0,  0, 0,  0};                  \
    asm volatile("ldtilecfg %0" ::"m"(kShapes));                                                  \
    for (int round = 0; round < kRounds; ++round) {                                               \
      asm volatile(NAME " %%tmm6, %%tmm4, %%tmm0\n\t" NAME " %%tmm7, %%tmm4, %%tmm1\n\t" NAME     \
                        " %%tmm6, %%tmm5, %%tmm2\n\t" NAME " %%tmm7, %%tmm5, %%tmm3\n\t" BESIDE:: \
                            : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",     \
                              "xmm8", "xmm9", "xmm10", "xmm11");                                  \
    }                                                                                             \
    asm volatile("tilerelease");                                                                  \
  }

#define LARDER_FMA_8                                                              \
  LARDER_CHAINS("vfmadd231ps", "zmm")                                             \
  LARDER_CHAINS("vfmadd231ps", "zmm") LARDER_CHAINS("vfmadd231ps", "zmm")         \
      LARDER_CHAINS("vfmadd231ps", "zmm") LARDER_CHAINS("vfmadd231ps", "zmm")     \
          LARDER_CHAINS("vfmadd231ps", "zmm") LARDER_CHAINS("vfmadd231ps", "zmm") \
              LARDER_CHAINS("vfmadd231ps", "zmm")

LARDER_TILE_LOOP(int8_tiles, "tdpbssd", "")
LARDER_TILE_LOOP(bf16_tiles, "tdpbf16ps", "")
LARDER_TILE_LOOP(fma_beside_tiles, "tdpbssd", LARDER_FMA_8)

void measure(benchmark::State& state, void (*loop)(), double ops_per_round) {
  for (auto _ : state) loop();
  const double n = static_cast<double>(state.iterations()) * kRounds;
  state.counters["ops"] = benchmark::Counter(n * ops_per_round, benchmark::Counter::kIsRate);
}

void add(const char* name, void (*loop)(), int ops_per_instruction, int n_instructions = kChains) {
  benchmark::RegisterBenchmark(name, measure, loop,
                               static_cast<double>(ops_per_instruction) * n_instructions);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (__builtin_cpu_supports("avx512vnni")) add("int8_dot/vpdpbusd", int8_dot, 128);
  if (__builtin_cpu_supports("avx512bf16")) add("bf16_dot/vdpbf16ps", bf16_dot, 64);
  if (__builtin_cpu_supports("avx512f")) add("f32_fma/512", f32_fma_512, 32);
  if (__builtin_cpu_supports("fma")) add("f32_fma/256", f32_fma_256, 16);
  if (larder::simd::best().name == "amx") {  // looking for it has asked for the registers
    add("int8_dot/tdpbssd", int8_tiles, 32768, 4);
    add("bf16_dot/tdpbf16ps", bf16_tiles, 16384, 4);
    add("f32_fma/512/beside_tiles", fma_beside_tiles, 32, 8 * kChains);
  }
  benchmark::RunSpecifiedBenchmarks();
}
