// Which rows stay when they go again and again, in several layers, against rows that numpy chose
// (tests/fixtures/make_eviction_runs.py).
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "engine/evictor.h"
#include "kernels/column_sums.h"
#include "kernels/query_moments.h"
#include "model/scratch_dir.h"
#include "policy/head_budgets.h"
#include "store/block_store.h"

namespace larder {
namespace {

constexpr std::uint32_t kBlockTokens = 16;

/// SplitMix64 (Steele et al. 2014).
std::uint64_t mixed(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

struct Facts {
  std::uint32_t seed, n_layers, n_heads, head_dim, n_rows, n_prompt, n_keep;
  static Facts of(const nlohmann::json& all) {
    return {all["seed"], all["layers"], all["heads"], all["head_dim"],
            all["rows"], all["prompt"], all["keep"]};
  }
};

enum class Kind : std::uint8_t { query, key, value };

/// [n_heads, n_rows, head_dim], as the script draws them.
std::vector<float> draw(const Facts& facts, std::uint32_t layer, Kind kind, std::uint32_t n_heads) {
  const std::uint64_t n_of_head = std::uint64_t{facts.n_rows} * facts.head_dim;
  const std::uint64_t first =
      (std::uint64_t{layer} * 3 + static_cast<std::uint64_t>(kind)) * facts.n_heads * n_of_head;
  std::vector<float> values;
  for (std::uint64_t i = 0; i < n_heads * n_of_head; ++i) {
    const std::uint64_t bits = mixed((std::uint64_t{facts.seed} << 32) + first + i);
    std::int32_t sum = -131070;
    for (const int shift : {0, 16, 32, 48})
      sum += static_cast<std::int32_t>(bits >> shift & 0xffff);
    const float value = static_cast<float>(sum) / 32768.0F;
    values.push_back(kind == Kind::query ? 2 * value : value);
  }
  return values;
}

struct LayerData {
  std::vector<float> q, k, v;  // [n_heads, n_rows, head_dim], [n_kv_heads, n_rows, head_dim] twice
};

RopeTable rope_table(std::uint32_t head_dim) {
  RopeTable table;  // halves, base 10000
  for (std::uint32_t i = 0; i < head_dim / 2; ++i) {
    table.inv_freq.push_back(static_cast<float>(std::pow(10000.0, -2.0 * i / head_dim)));
  }
  return table;
}

EvictionOptions options_of(const std::string& policy, const Facts& facts) {
  KvOptions options;
  options.policy = policy;
  options.keep = std::to_string(facts.n_keep);
  auto eviction = eviction_options(options);
  EXPECT_TRUE(eviction) << eviction.error().message;
  std::vector<std::uint32_t> layers(facts.n_layers);
  std::iota(layers.begin(), layers.end(), 0U);
  if (!(*eviction)->heads_path.empty()) {
    (*eviction)->shares = *head_shares((*eviction)->policy, (*eviction)->heads, layers);
  }
  return **eviction;
}

/// A cache that a text goes through, chunk by chunk.
class EvictedText {
 public:
  using Rows = std::vector<std::uint32_t>;
  using Kept = std::vector<std::vector<Rows>>;                               // [layer][KV head]
  using Values = std::vector<std::vector<std::vector<std::vector<float>>>>;  // of each kept row

  EvictedText(const Facts& facts, const std::string& policy, std::uint32_t n_kv_heads)
      : facts_(facts),
        n_kv_heads_(n_kv_heads),
        options_(options_of(policy, facts)),
        apart_(options_.policy.splits_heads || options_.policy.head_file != HeadFile::none),
        block_{kBlockTokens, facts.head_dim},
        layout_(make_kv_layout(kv_codec(KvFormat::f32), kv_codec(KvFormat::f32), block_)),
        shape_(make_shape()),
        pool_(*BlockPool::create({1 << 22, {{kv_block_bytes(layout_, block_), heads_of_part()}}})),
        store_(*BlockStore::create(pool_.range_bytes())),
        threads_(2),
        compute_{simd::best(), threads_},
        cache_(shape_, pool_, facts.n_rows) {
    layout_.pool = store_.pool();
    for (std::uint32_t layer = 0; layer < facts_.n_layers; ++layer) {
      data_.push_back({draw(facts_, layer, Kind::query, facts_.n_heads),
                       draw(facts_, layer, Kind::key, n_kv_heads),
                       draw(facts_, layer, Kind::value, n_kv_heads)});
    }
    evictor_.emplace(options_, shape_, compute_, std::vector<KvLayout>(facts_.n_layers, layout_),
                     EvictorModel{facts_.n_heads, n_kv_heads, facts_.head_dim, scale(),
                                  rope_table(facts_.head_dim)});
    statistics_ = CacheStatistics(shape_, evictor_->wants());
    points_ = evictor_->points(facts_.n_prompt);
  }

  /// Up to the next point, in chunks of one to five rows. False: there is none within the text.
  bool run_to_point() {
    const std::uint32_t point = points_.next(cache_.n_rows());
    if (point > facts_.n_rows) return false;
    for (std::uint32_t chunk = 1; cache_.n_rows() < point; chunk = chunk % 5 + 1) {
      append(std::min(chunk, point - cache_.n_rows()));
    }
    const auto evicted = evictor_->evict(cache_, points_.n_keep, statistics_);
    EXPECT_TRUE(evicted) << evicted.error().message;
    return true;
  }
  std::uint32_t n_rows() const { return cache_.n_rows(); }

  /// Rows are known by their keys, which no method of these changes.
  Kept kept() const {
    Kept kept(facts_.n_layers);
    for (std::uint32_t layer = 0; layer < facts_.n_layers; ++layer) {
      for (std::uint32_t head = 0; head < n_kv_heads_; ++head) {
        Rows& rows = kept[layer].emplace_back();
        for (std::uint32_t at = 0; at < cache_.n_stored(part(layer, head)); ++at) {
          std::vector<float> key(facts_.head_dim);
          layout_.k->read_k(block_at(layer, head, at), at % kBlockTokens, block_, key.data());
          rows.push_back(row_of(layer, head, key));
        }
      }
    }
    return kept;
  }
  Values values() const {
    Values values(facts_.n_layers);
    for (std::uint32_t layer = 0; layer < facts_.n_layers; ++layer) {
      for (std::uint32_t head = 0; head < n_kv_heads_; ++head) {
        auto& of_head = values[layer].emplace_back();
        for (std::uint32_t at = 0; at < cache_.n_stored(part(layer, head)); ++at) {
          of_head.emplace_back(facts_.head_dim);
          layout_.v->read_v(block_at(layer, head, at) + layout_.v_offset, at % kBlockTokens, block_,
                            of_head.back().data());
        }
      }
    }
    return values;
  }

 private:
  std::uint32_t heads_of_part() const { return apart_ ? 1 : n_kv_heads_; }
  float scale() const { return 1.0F / std::sqrt(static_cast<float>(facts_.head_dim)); }
  std::uint32_t part(std::uint32_t layer, std::uint32_t head) const {  // layer of the shape
    return apart_ ? layer * n_kv_heads_ + head : layer;
  }
  const BlockTable& table(std::uint32_t layer, std::uint32_t head) const {
    return cache_.table(part(layer, head), apart_ ? 0 : head);
  }
  std::byte* block_at(std::uint32_t layer, std::uint32_t head, std::uint32_t at) const {
    return layout_.pool + to_offset(table(layer, head).blocks()[at / kBlockTokens]);
  }
  CacheShape make_shape() const {
    CacheShape shape{kBlockTokens, {}};
    CacheLayer layer{heads_of_part(), 0, BlockClass{0}};
    layer.max_stored = facts_.n_rows;
    shape.layers.resize(std::size_t{facts_.n_layers} * (apart_ ? n_kv_heads_ : 1), layer);
    shape.heads_apart = apart_;
    return shape;
  }
  std::uint32_t row_of(std::uint32_t layer, std::uint32_t head,
                       const std::vector<float>& key) const {
    const float* keys = data_[layer].k.data() + std::size_t{head} * facts_.n_rows * key.size();
    for (std::uint32_t row = 0; row < facts_.n_rows; ++row) {
      if (std::equal(key.begin(), key.end(), keys + row * key.size())) return row;
    }
    ADD_FAILURE() << "a key of no row";
    return 0;
  }

  void append(std::uint32_t n) {
    std::vector<BlockCopy> copies;
    ASSERT_TRUE(cache_.reserve(n, copies, points_.n_most));
    const std::uint32_t begin = cache_.n_rows();
    for (std::uint32_t layer = 0; layer < facts_.n_layers; ++layer) {
      for (std::uint32_t head = 0; head < n_kv_heads_; ++head) {
        for (std::uint32_t i = 0; i < n; ++i) {
          const std::uint32_t at = cache_.n_stored(part(layer, head)) + i;
          std::byte* block = block_at(layer, head, at);
          const std::size_t from =
              (std::size_t{head} * facts_.n_rows + begin + i) * facts_.head_dim;
          layout_.k->append_k(data_[layer].k.data() + from, at % kBlockTokens, block_, block);
          layout_.v->append_v(data_[layer].v.data() + from, at % kBlockTokens, block_,
                              block + layout_.v_offset);
        }
      }
      if (!statistics_.empty()) observe(layer, begin, n);
    }
    cache_.commit(n);
  }

  std::vector<float> queries(std::uint32_t layer, std::uint32_t begin, std::uint32_t n) const {
    std::vector<float> q;
    for (std::uint32_t row = begin; row < begin + n; ++row) {
      for (std::uint32_t head = 0; head < facts_.n_heads; ++head) {
        const float* from =
            data_[layer].q.data() + (std::size_t{head} * facts_.n_rows + row) * facts_.head_dim;
        q.insert(q.end(), from, from + facts_.head_dim);
      }
    }
    return q;
  }

  void observe(std::uint32_t layer, std::uint32_t begin, std::uint32_t n) {
    std::uint32_t first = points_.next_observed(begin);
    if (!statistics_.of_rows()) first = std::max(first, 4U);  // the first four are left out
    if (first >= begin + n) return;
    const std::vector<float> q = queries(layer, begin, n);
    float* sums = statistics_.layer(part(layer, 0));  // those of other parts stand behind it
    if (!statistics_.of_rows()) {
      const CountedRows rows{first - begin, begin + n - first, sums};
      return add_query_moments(compute_, {q.data(), facts_.n_heads, facts_.head_dim},
                               std::span(&rows, 1));
    }
    std::uint32_t n_most = 0;
    for (std::uint32_t head = 0; head < n_kv_heads_; ++head) {
      n_most = std::max(n_most, cache_.n_stored(part(layer, head)));
    }
    std::vector<KvRows> heads;
    for (std::uint32_t head = 0; head < n_kv_heads_; ++head) {
      heads.push_back(
          {table(layer, head).blocks(), 0, BlockId{}, n_most - cache_.n_stored(part(layer, head))});
    }
    const AttentionShape shape{.n_heads = facts_.n_heads,
                               .n_kv_heads = n_kv_heads_,
                               .head_dim = facts_.head_dim,
                               .block_tokens = kBlockTokens,
                               .scale = scale()};
    const AttentionItem item{0, n, n_most, heads};
    const ObservedRows rows{0,
                            first - begin,
                            begin + n - first,
                            sums,
                            statistics_.stride(),
                            points_.place_of(first),
                            statistics_.far(),
                            credit_rule(options_.policy)};
    ColumnScratch scratch(compute_.pool.n_threads(), n_most + n, facts_.head_dim);
    add_column_sums(compute_, shape, layout_, std::span(&item, 1), q.data(),
                    {std::span(&rows, 1), scratch, layer});
  }

  const Facts facts_;
  const std::uint32_t n_kv_heads_;
  const EvictionOptions options_;
  const bool apart_;  // each KV head is a layer of the shape
  const BlockShape block_;
  KvLayout layout_;
  const CacheShape shape_;
  BlockPool pool_;
  BlockStore store_;
  ThreadPool threads_;
  const Compute compute_;
  SequenceCache cache_;
  std::vector<LayerData> data_;
  std::optional<Evictor> evictor_;
  CacheStatistics statistics_;
  EvictionPoints points_;
};

void expect_near(const EvictedText::Values& got, const EvictedText::Values& wanted,
                 const std::string& policy) {
  ASSERT_EQ(got.size(), wanted.size());
  for (std::size_t layer = 0; layer < got.size(); ++layer) {
    ASSERT_EQ(got[layer].size(), wanted[layer].size());
    for (std::size_t head = 0; head < got[layer].size(); ++head) {
      ASSERT_EQ(got[layer][head].size(), wanted[layer][head].size());
      for (std::size_t row = 0; row < got[layer][head].size(); ++row) {
        for (std::size_t c = 0; c < got[layer][head][row].size(); ++c) {
          ASSERT_NEAR(got[layer][head][row][c], wanted[layer][head][row][c], 5e-5F)
              << policy << ", layer " << layer << ", head " << head << ", row " << row;
        }
      }
    }
  }
}

TEST(EvictorRuns, EqualTheReferenceOverLayersAndTime) {
  std::ifstream in(std::string(LARDER_TEST_DATA) + "/policy/eviction_runs.json");
  const nlohmann::json all = nlohmann::json::parse(in);
  const Facts facts = Facts::of(all);
  const ScratchDir dir;
  std::size_t n_evictions = 0;
  for (const nlohmann::json& run : all["runs"]) {
    auto policy = run["policy"].get<std::string>();
    if (run.contains("heads")) {
      const auto weights = run["heads"].get<std::vector<std::vector<float>>>();
      std::string lines;
      for (const auto& layer : weights) lines += fmt::format("{}\n", fmt::join(layer, "\t"));
      dir.write("heads.tsv", lines);
      policy += dir.path("heads.tsv");
    }
    EvictedText text(facts, policy, run["kv_heads"]);
    std::vector<std::uint32_t> points;
    while (text.run_to_point()) {
      ASSERT_LT(points.size(), run["kept"].size()) << policy;
      EXPECT_EQ(text.kept(), run["kept"][points.size()].get<EvictedText::Kept>())
          << policy << ", " << run["kv_heads"] << " KV heads, at " << text.n_rows();
      points.push_back(text.n_rows());
      ++n_evictions;
    }
    EXPECT_EQ(points, run["points"].get<std::vector<std::uint32_t>>()) << policy;
    if (run.contains("values")) {
      expect_near(text.values(), run["values"].get<EvictedText::Values>(), policy);
    }
  }
  EXPECT_GT(n_evictions, 200U);
}

}  // namespace
}  // namespace larder
