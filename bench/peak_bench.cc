// What do the multipliers of one core do, with nothing to load? The limits of docs/performance.md.
//   build/release/bin/peak_bench
// `ops` counts a multiplication and an addition as two. Registers are named, for a compiler may
// keep variables of an `asm` in memory; values do not matter, zeros are as fast as others.
#include <benchmark/benchmark.h>

namespace {

constexpr int kChains = 12;  // independent sums, more than latency times issue rate
constexpr int kRounds = 4096;

#define LARDER_ONE(NAME, R, I) NAME " %%" R "13, %%" R "12, %%" R #I "\n\t"
#define LARDER_CHAINS(NAME, R)                                                                    \
  LARDER_ONE(NAME, R, 0)                                                                          \
  LARDER_ONE(NAME, R, 1)                                                                          \
  LARDER_ONE(NAME, R, 2) LARDER_ONE(NAME, R, 3) LARDER_ONE(NAME, R, 4) LARDER_ONE(NAME, R, 5)     \
      LARDER_ONE(NAME, R, 6) LARDER_ONE(NAME, R, 7) LARDER_ONE(NAME, R, 8) LARDER_ONE(NAME, R, 9) \
          LARDER_ONE(NAME, R, 10) LARDER_ONE(NAME, R, 11)

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

void measure(benchmark::State& state, void (*loop)(), int ops_per_instruction) {
  for (auto _ : state) loop();
  const double n = static_cast<double>(state.iterations()) * kRounds * kChains;
  state.counters["ops"] = benchmark::Counter(n * ops_per_instruction, benchmark::Counter::kIsRate);
}

void add(const char* name, void (*loop)(), int ops_per_instruction) {
  benchmark::RegisterBenchmark(name, measure, loop, ops_per_instruction);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (__builtin_cpu_supports("avx512vnni")) add("int8_dot/vpdpbusd", int8_dot, 128);
  if (__builtin_cpu_supports("avx512bf16")) add("bf16_dot/vdpbf16ps", bf16_dot, 64);
  if (__builtin_cpu_supports("avx512f")) add("f32_fma/512", f32_fma_512, 32);
  if (__builtin_cpu_supports("fma")) add("f32_fma/256", f32_fma_256, 16);
  benchmark::RunSpecifiedBenchmarks();
}
