// How close is decode attention to memory bandwidth, and what does prefill attention compute?
//   build/release/bin/attention_bench --benchmark_filter=decode
// 32 query heads over 8 KV heads, blocks of 32 rows, neighbours of a token run together and the
// runs in random order. Decoding walks over layers that together exceed the last-level cache.
// `bytes` are K and V bytes read per second (compare with `read`, a plain sum over the same
// memory), `flops` count a multiplication and an addition as two, masked scores not at all.
// With "quest1024" a decoding query reads 1024 rows, in blocks chosen by the bounds of their keys;
// "choose1024" is the choice alone.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/attention.h"
#include "kernels/block_choice.h"
#include "store/block_store.h"

namespace {

using larder::AttentionItem;
using larder::AttentionShape;
using larder::BlockId;
using larder::KvFormat;

constexpr std::uint32_t kHeads = 32, kKvHeads = 8, kBlockTokens = 32;
constexpr std::size_t kWorkingSet = std::size_t{512} << 20;

larder::BlockStore make_store(std::size_t bytes) {
  auto store = larder::BlockStore::create(bytes);
  if (!store) std::abort();
  // Small numbers in every format; zeros would be unmapped memory.
  auto* words = reinterpret_cast<std::uint32_t*>(store->pool());
  std::mt19937 rng(3);
  for (std::size_t i = 0; i < bytes / 4; ++i) words[i] = (rng() & 0x007f007fU) | 0x3c003c00U;
  return std::move(*store);
}

/// Layers of one sequence with `n_rows` cached rows each, the last `n_new` of them of the step.
class Cache {
 public:
  Cache(std::uint32_t head_dim, KvFormat format, std::uint32_t n_rows, std::uint32_t n_new,
        std::uint32_t n_layers, larder::BlockMarks marks = larder::BlockMarks::none) {
    const larder::BlockShape block{kBlockTokens, head_dim};
    const larder::KvCodec& codec = larder::kv_codec(format);
    layout_ = larder::make_kv_layout(codec, codec, block, marks);
    const std::size_t block_bytes = larder::kv_block_bytes(layout_, block);
    const std::uint32_t n_blocks = (n_rows + kBlockTokens - 1) / kBlockTokens;
    layer_bytes_ = std::size_t{n_blocks} * kKvHeads * block_bytes;
    const std::size_t open_bytes = kKvHeads * layout_.open_bytes;  // after the others
    store_.push_back(make_store(layer_bytes_ * n_layers + open_bytes));
    layout_.pool = store_[0].pool();
    if (layout_.seals()) {
      fresh_.push_back(make_store((n_new / kBlockTokens + 2) * open_bytes));
      layout_.fresh = fresh_[0].pool();
    }
    std::vector<std::uint32_t> extents(std::size_t{n_blocks} * n_layers);
    std::iota(extents.begin(), extents.end(), 0U);
    std::shuffle(extents.begin(), extents.end(), std::mt19937(5));
    tables_.resize(std::size_t{n_layers} * kKvHeads);
    for (std::size_t i = 0; i < tables_.size(); ++i) {
      for (std::uint32_t b = 0; b < n_blocks; ++b) {
        const std::size_t extent = extents[i / kKvHeads * n_blocks + b];
        tables_[i].push_back(id((extent * kKvHeads + i % kKvHeads) * block_bytes));
      }
      const BlockId open = id(layer_bytes_ * n_layers + i % kKvHeads * layout_.open_bytes);
      heads_.push_back({tables_[i], 0, open});
    }
  }
  const larder::KvLayout& layout() const { return layout_; }
  std::span<const larder::KvRows> heads(std::size_t layer) const {
    return std::span(heads_).subspan(layer * kKvHeads, kKvHeads);
  }
  std::size_t layer_bytes() const { return layer_bytes_; }

 private:
  static BlockId id(std::size_t offset) {
    return BlockId{static_cast<std::uint32_t>(offset / larder::kBlockQuantum)};
  }
  std::vector<larder::BlockStore> store_, fresh_;
  larder::KvLayout layout_;
  std::vector<std::vector<BlockId>> tables_;
  std::vector<larder::KvRows> heads_;
  std::size_t layer_bytes_ = 0;
};

struct Case {
  const larder::simd::Table* table;
  KvFormat format;
  std::uint32_t head_dim, n_past, n_rows;
  unsigned n_threads;
};

void run_attention(benchmark::State& state, const Case& c) {
  larder::ThreadPool pool(c.n_threads);
  const std::uint32_t n_rows = c.n_past + c.n_rows;
  const std::size_t row_bytes = std::size_t{kKvHeads} * c.head_dim * 4;
  const auto n_layers = static_cast<std::uint32_t>(
      c.n_rows > 1 ? 1 : std::max<std::size_t>(1, kWorkingSet / (n_rows * row_bytes)));
  const Cache cache(c.head_dim, c.format, n_rows, c.n_rows, n_layers);
  const AttentionShape shape{kHeads, kKvHeads, c.head_dim, kBlockTokens, 0, 0.01F, 0};
  larder::AttentionScratch scratch(shape, c.n_threads, c.n_rows, n_rows, 1, cache.layout().seals());
  larder::Buffer<float> q(std::size_t{c.n_rows} * kHeads * c.head_dim), out(q.size());
  std::mt19937 rng(1);
  std::normal_distribution<float> normal;
  for (float& x : q.span()) x = normal(rng);
  std::size_t layer = 0;
  for (auto _ : state) {
    const AttentionItem item{0, c.n_rows, c.n_past, cache.heads(layer)};
    attend({*c.table, pool}, shape, cache.layout(), std::span(&item, 1), q.data(), out.data(),
           scratch);
    benchmark::DoNotOptimize(out.data());
    layer = (layer + 1) % n_layers;
  }
  const auto calls = static_cast<double>(state.iterations());
  const auto rate = [&](double amount) {
    return benchmark::Counter(amount * calls, benchmark::Counter::kIsRate);
  };
  const double n_seen = c.n_rows * (c.n_past + (c.n_rows + 1) / 2.0);
  state.counters["bytes"] = rate(static_cast<double>(cache.layer_bytes()));
  state.counters["flops"] = rate(4.0 * kHeads * c.head_dim * n_seen);
}

constexpr std::uint32_t kRead = 1024;  // rows, where queries choose

/// One query over layers that each hold c.n_past rows before it.
void run_choice(benchmark::State& state, const Case& c, bool attends) {
  larder::ThreadPool pool(c.n_threads);
  const larder::Compute compute{*c.table, pool};
  const std::uint32_t n_rows = c.n_past + 1;
  const std::size_t row_bytes = std::size_t{kKvHeads} * c.head_dim * 4;
  const auto n_layers =
      static_cast<std::uint32_t>(std::max<std::size_t>(1, kWorkingSet / (n_rows * row_bytes)));
  const Cache cache(c.head_dim, c.format, n_rows, 1, n_layers, larder::BlockMarks::bounds);
  const AttentionShape shape{kHeads, kKvHeads, c.head_dim, kBlockTokens, 0, 0.01F, 0};
  larder::AttentionScratch scratch(shape, c.n_threads, 1, n_rows, 1, cache.layout().seals());
  larder::BlockChoice choice(shape, {.n_blocks = kRead / kBlockTokens},
                             {c.n_threads, 1, 1, n_rows});
  larder::Buffer<float> q(std::size_t{kHeads} * c.head_dim), out(q.size());
  std::mt19937 rng(1);
  std::normal_distribution<float> normal;
  for (float& x : q.span()) x = normal(rng);
  const std::uint32_t n_full = 0;
  std::size_t layer = 0;
  for (auto _ : state) {
    const AttentionItem item{0, 1, c.n_past, cache.heads(layer)};
    const larder::BlockChoice::Call call{shape,    cache.layout(), {&item, 1}, {&n_full, 1},
                                         q.data(), out.data(),     scratch};
    if (attends) {
      choice.attend_chosen(compute, call);
      benchmark::DoNotOptimize(out.data());
    } else {
      benchmark::DoNotOptimize(choice.choose(compute, call, 0).data());
    }
    layer = (layer + 1) % n_layers;
  }
}

void run_read(benchmark::State& state, unsigned n_threads) {
  constexpr std::size_t kPiece = std::size_t{1} << 20;
  larder::ThreadPool pool(n_threads);
  const larder::BlockStore store = make_store(kWorkingSet);
  const larder::simd::Table& table = larder::simd::best();
  for (auto _ : state) {
    pool.for_each(kWorkingSet / kPiece, [&](std::size_t i, unsigned) {
      const auto* piece = reinterpret_cast<const float*>(store.pool() + i * kPiece);
      benchmark::DoNotOptimize(table.sum_squares(piece, kPiece / sizeof(float)));
    });
  }
  state.counters["bytes"] =
      benchmark::Counter(static_cast<double>(kWorkingSet) * static_cast<double>(state.iterations()),
                         benchmark::Counter::kIsRate);
}

std::string full_name(const std::string& name, const Case& c) {
  return name + "/" + std::string(c.table->name) + "/" +
         std::string(larder::kv_codec(c.format).name) + "/d" + std::to_string(c.head_dim) +
         "/past" + std::to_string(c.n_past) + "/t" + std::to_string(c.n_threads);
}

void add(const std::string& name, const Case& c) {
  benchmark::RegisterBenchmark(full_name(name, c).c_str(), run_attention, c)
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
}

void add_choice(const Case& c) {
  for (const bool attends : {true, false}) {
    const std::string name = attends ? "quest" : "choose";
    benchmark::RegisterBenchmark(full_name(name + std::to_string(kRead), c).c_str(), run_choice, c,
                                 attends)
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
  }
}

}  // namespace

int main(int argc, char** argv) {
  for (const unsigned n_threads : {1U, 2U}) {
    benchmark::RegisterBenchmark(("read/t" + std::to_string(n_threads)).c_str(), run_read,
                                 n_threads)
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
    for (const larder::simd::Table* table : larder::simd::available()) {
      for (const larder::KvCodec* codec : larder::kv_codecs()) {
        if (codec->before_rope != nullptr) continue;  // not for values
        const KvFormat format = codec->format;
        for (const std::uint32_t head_dim : {64U, 128U}) {
          for (const std::uint32_t n_past : {4095U, 16383U, 32767U}) {
            add("decode", {table, format, head_dim, n_past, 1, n_threads});
            add_choice({table, format, head_dim, n_past, 1, n_threads});
          }
          for (const std::uint32_t n_past : {0U, 16384U}) {
            add("prefill512", {table, format, head_dim, n_past, 512, n_threads});
          }
        }
      }
    }
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
