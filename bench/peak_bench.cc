// What do the multipliers of one core do, with nothing to load? The limits of docs/performance.md.
//   build/release/bin/peak_bench
// `ops` counts a multiplication and an addition as two.
#include <benchmark/benchmark.h>
#include <immintrin.h>

namespace {

constexpr int kChains = 12;  // independent sums: more than latency times issue rate, and in registers
constexpr int kRounds = 4096;

#define LARDER_PEAK_LOOP(NAME, TARGET, VECTOR, ZERO, INSTRUCTION)                \
  __attribute__((target(TARGET), noinline)) void NAME() {                        \
    VECTOR sum[kChains];                                                         \
    for (VECTOR & s : sum) s = ZERO();                                           \
    VECTOR a = ZERO(), b = ZERO();                                               \
    for (int round = 0; round < kRounds; ++round) {                              \
      _Pragma("GCC unroll 12") for (int i = 0; i < kChains; ++i) {               \
        asm volatile(INSTRUCTION " %2, %1, %0" : "+v"(sum[i]) : "v"(a), "v"(b)); \
      }                                                                          \
    }                                                                            \
    for (VECTOR & s : sum) asm volatile("" : : "v"(s));                          \
  }

LARDER_PEAK_LOOP(int8_dot, "avx512f,avx512vnni", __m512i, _mm512_setzero_si512, "vpdpbusd")
LARDER_PEAK_LOOP(bf16_dot, "avx512f,avx512bf16", __m512, _mm512_setzero_ps, "vdpbf16ps")
LARDER_PEAK_LOOP(f32_fma_512, "avx512f", __m512, _mm512_setzero_ps, "vfmadd231ps")
LARDER_PEAK_LOOP(f32_fma_256, "avx2,fma", __m256, _mm256_setzero_ps, "vfmadd231ps")

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
