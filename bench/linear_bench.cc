// How close are linear layers to memory bandwidth (one row) and to the integer peak (512 rows)?
//   build/release/bin/linear_bench --benchmark_filter=avx512
// Names: linear/SET/TYPE/ROWS OF X/threads:N, over file rows, and packed/... over panels, as models
// use the types that have them. `weights` is bytes of weights read per second, `ops` counts a
// multiplication and an addition as two. Runs with one thread are timed by the processor time they
// took, so that neighbours on the machine count less.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/linear.h"
#include "simd/simd.h"
#include "tensor/buffer.h"
#include "tensor/half.h"
#include "tensor/huge_arena.h"
#include "tensor/packed.h"

namespace {

using larder::DType;

constexpr std::uint32_t kIn = 2048;

/// Random codes with sane scales: random bytes whose 16-bit words stay below infinity as f16.
larder::Buffer<std::byte> random_weights(DType dtype, std::uint32_t n_out) {
  larder::Buffer<std::byte> bytes(n_out * larder::row_bytes(dtype, kIn));
  std::mt19937 rng(7);
  for (std::size_t i = 0; i + 4 <= bytes.size(); i += 4) {
    const auto word = static_cast<std::uint32_t>(rng()) & 0x3fff3fffU;
    std::memcpy(bytes.data() + i, &word, 4);
  }
  return bytes;
}

struct Case {
  DType dtype;
  bool is_packed;
  std::uint32_t n_x;
  unsigned n_threads;
};

void run_linear(benchmark::State& state, const Case& c, const larder::simd::Table& table) {
  // Decoding must read memory, not the cache; prefill may use smaller weights.
  const std::uint32_t n_x = c.n_x, n_out = n_x < 64 ? 96 * 1024 : 2048;
  larder::ThreadPool pool(c.n_threads);
  const larder::Compute compute{table, pool};
  const auto bytes = random_weights(c.dtype, n_out);
  larder::LinearWeight weight{c.dtype, n_out, kIn, bytes.data(), nullptr};
  auto arena = larder::HugeArena::create(bytes.size());
  if (!arena) return state.SkipWithError(arena.error().message.c_str());
  if (c.is_packed) {
    std::byte* panels = arena->take(larder::packed_bytes(c.dtype, n_out, kIn));
    larder::pack_linear(pool, weight, panels);
    weight.data = panels;
    weight.is_packed = true;
  }
  larder::Buffer<float> x(std::size_t{n_x} * kIn), out(std::size_t{n_x} * n_out);
  std::mt19937 rng(1);
  std::normal_distribution<float> normal;
  for (float& v : x.span()) v = normal(rng);
  larder::LinearInput input(n_x, kIn);
  for (auto _ : state) {
    input.set(x.data(), n_x, kIn);
    linear(compute, weight, input, out.span(), n_out);
    benchmark::DoNotOptimize(out.data());
  }
  const auto calls = static_cast<double>(state.iterations());
  const auto rate = [&](double amount) {
    return benchmark::Counter(amount * calls, benchmark::Counter::kIsRate);
  };
  state.counters["weights"] = rate(static_cast<double>(bytes.size()));
  state.counters["ops"] = rate(2.0 * n_x * n_out * kIn);
}

void run_fork_join(benchmark::State& state, unsigned n_threads) {
  larder::ThreadPool pool(n_threads);
  for (auto _ : state) {
    pool.for_each(n_threads, [](std::size_t task, unsigned) { benchmark::DoNotOptimize(task); });
  }
}

void register_linear(const larder::simd::Table& table, const Case& c) {
  const std::string name =
      fmt::format("{}/{}/{}/{}/threads:{}", c.is_packed ? "packed" : "linear", table.name,
                  larder::dtype_info(c.dtype).name, c.n_x, c.n_threads);
  auto* registered = benchmark::RegisterBenchmark(
      name.c_str(), [=, &table](benchmark::State& state) { run_linear(state, c, table); });
  registered->Unit(benchmark::kMicrosecond);
  if (c.n_threads > 1) registered->UseRealTime();
}

}  // namespace

int main(int argc, char** argv) {
  constexpr DType kTypes[] = {DType::f32,  DType::f16,  DType::bf16, DType::q8_0,
                              DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1,
                              DType::q4_k, DType::q5_k, DType::q6_k};
  for (const auto* table : larder::simd::available()) {
    for (const DType dtype : kTypes) {
      for (const std::uint32_t n_x : {1U, 4U, 16U, 512U}) {
        for (const unsigned n_threads : {1U, 2U}) {
          register_linear(*table, {dtype, false, n_x, n_threads});
          if (larder::can_pack(dtype)) register_linear(*table, {dtype, true, n_x, n_threads});
        }
      }
    }
  }
  for (const unsigned n : {1U, 2U, 4U}) {
    benchmark::RegisterBenchmark(("fork_join/" + std::to_string(n)).c_str(),
                                 [=](benchmark::State& state) { run_fork_join(state, n); })
        ->UseRealTime();
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
