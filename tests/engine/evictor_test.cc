// Which rows stay, against rows that numpy chose (tests/fixtures/make_policy_fixtures.py).
#include "engine/evictor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/column_sums.h"
#include "kernels/query_moments.h"
#include "model/scratch_dir.h"
#include "store/block_store.h"

namespace larder {
namespace {

nlohmann::json fixture() {
  std::ifstream in(std::string(LARDER_TEST_DATA) + "/policy/kept_rows.json");
  return nlohmann::json::parse(in);
}

/// One layer of K and V whose keys are those of the fixture; the values' first channels name
/// their rows.
class KeptSet : public testing::Test {
 protected:
  /// Halves, base 10000, as the fixture's.
  static RopeTable rope_table(BlockShape block) {
    RopeTable table;
    for (std::uint32_t i = 0; i < block.head_dim / 2; ++i) {
      table.inv_freq.push_back(static_cast<float>(std::pow(10000.0, -2.0 * i / block.head_dim)));
    }
    return table;
  }
  struct Layer {
    const KvLayout& layout;
    const SequenceCache& cache;
    EvictionPoints points;
    bool apart;
    CreditRule rule;
  };
  /// The attention of the fixture's queries on the cached rows, in steps of various sizes. Where a
  /// text is read again, those behind its `of_text` rows.
  static void observe(const Compute& compute, const Layer& layer, const nlohmann::json& of,
                      std::uint32_t of_text, CacheStatistics& statistics) {
    const auto n_heads = static_cast<std::uint32_t>(of["queries"].size());
    const auto n_kv_heads = of["kv_heads"].get<std::uint32_t>();
    const std::uint32_t n_rows = layer.cache.n_rows();
    const auto head_dim = static_cast<std::uint32_t>(of["queries"][0][0].size());
    const AttentionShape shape{.n_heads = n_heads,
                               .n_kv_heads = n_kv_heads,
                               .head_dim = head_dim,
                               .block_tokens = 16,
                               .scale = 1.0F / std::sqrt(static_cast<float>(head_dim))};
    std::vector<KvRows> heads;
    for (std::uint32_t h = 0; h < n_kv_heads; ++h) {
      heads.push_back({(layer.apart ? layer.cache.table(h, 0) : layer.cache.table(0, h)).blocks()});
    }
    ColumnScratch scratch(compute.pool.n_threads(), n_rows, head_dim);
    std::uint32_t n = 0;
    for (std::uint32_t begin = 0, step = 1; begin < n_rows; begin += n, ++step) {
      n = std::min(step, n_rows - begin);
      const std::uint32_t first =
          layer.points.n_reread != 0 ? std::max(begin, of_text) : layer.points.next_observed(begin);
      if (first >= begin + n) continue;
      std::vector<float> q;
      for (std::uint32_t row = begin; row < begin + n; ++row) {
        for (std::uint32_t h = 0; h < n_heads; ++h) {
          const auto values = of["queries"][h][row].get<std::vector<float>>();
          q.insert(q.end(), values.begin(), values.end());
        }
      }
      if (!statistics.of_rows()) {
        const std::uint32_t counted = std::max(first, 4U);  // the first four are left out
        if (counted >= begin + n) continue;
        const CountedRows rows{counted - begin, begin + n - counted, statistics.layer(0)};
        add_query_moments(compute, {q.data(), n_heads, head_dim}, std::span(&rows, 1));
        continue;
      }
      const AttentionItem item{0, n, begin, heads};
      const ObservedRows rows{0,
                              first - begin,
                              begin + n - first,
                              statistics.layer(0),
                              statistics.stride(),
                              layer.points.place_of(first),
                              statistics.far(),
                              layer.rule};
      add_column_sums(compute, shape, layer.layout, std::span(&item, 1), q.data(),
                      {std::span(&rows, 1), scratch});
    }
  }

  using Rows = std::vector<std::uint32_t>;

  std::string write_heads(const nlohmann::json& weights) const {
    std::ofstream out(dir_.path("heads.tsv"));
    for (const auto& weight : weights) out << weight << '\t';
    return dir_.path("heads.tsv");
  }

  using Values = std::vector<std::vector<std::vector<float>>>;  // [n_kv_heads, n_kept, head_dim]

  std::vector<Rows> kept_by(const std::string& policy, const nlohmann::json& all,
                            const nlohmann::json& of) {
    std::vector<Rows> kept;
    for (const auto& head : values_kept_by(policy, all, of)) {
      Rows& rows = kept.emplace_back();
      for (const auto& value : head) rows.push_back(static_cast<std::uint32_t>(value[0] * 64));
    }
    return kept;
  }

  /// Or the keys.
  Values values_kept_by(const std::string& policy, const nlohmann::json& all,
                        const nlohmann::json& of, bool of_keys = false) {
    KvOptions options;
    options.policy = policy;
    options.keep = std::to_string(all["keep"].get<int>());
    auto eviction = eviction_options(options);
    EXPECT_TRUE(eviction) << eviction.error().message;
    if (!(*eviction)->heads_path.empty()) {
      (*eviction)->shares =
          *head_shares((*eviction)->policy, (*eviction)->heads, std::vector<std::uint32_t>{0});
    }
    const auto n_heads = of["kv_heads"].get<std::uint32_t>();
    const auto n_rows = all["rows"].get<std::uint32_t>();
    const auto n_text = all["text"].get<std::uint32_t>();
    const BlockShape block{16, all["head_dim"].get<std::uint32_t>()};
    KvLayout layout = make_kv_layout(kv_codec(KvFormat::f32), kv_codec(KvFormat::f32), block);
    // Each head is a layer of the shape.
    const bool apart = (*eviction)->policy.splits_heads || (*eviction)->policy.fits_patterns ||
                       !(*eviction)->heads_path.empty();
    CacheShape shape{block.block_tokens, {{apart ? 1 : n_heads, 0, BlockClass{0}}}};
    shape.heads_apart = apart;
    shape.layers[0].max_stored = n_rows;
    if (apart) shape.layers.resize(n_heads, shape.layers[0]);
    const auto table = [apart](const SequenceCache& cache, std::uint32_t h) -> const BlockTable& {
      return apart ? cache.table(h, 0) : cache.table(0, h);
    };
    BlockPool pool =
        *BlockPool::create({1 << 20, {{kv_block_bytes(layout, block), apart ? 1 : n_heads}}});
    BlockStore store = *BlockStore::create(pool.range_bytes());
    layout.pool = store.pool();
    SequenceCache cache(shape, pool, n_rows);
    std::vector<BlockCopy> copies;
    EXPECT_TRUE(cache.reserve(n_rows, copies, all["keep"].get<std::uint32_t>()));
    cache.commit(n_rows);
    for (std::uint32_t h = 0; h < n_heads; ++h) {
      for (std::uint32_t row = 0; row < n_rows; ++row) {
        const auto key = of["keys"][h][row].get<std::vector<float>>();
        const auto value = of["values"][h][row].get<std::vector<float>>();
        std::byte* at = layout.pool + to_offset(table(cache, h).blocks()[row / 16]);
        layout.k->append_k(key.data(), row % 16, block, at);
        layout.v->append_v(value.data(), row % 16, block, at + layout.v_offset);
      }
    }
    ThreadPool threads(2);
    const Compute compute{simd::best(), threads};
    const auto n_query_heads = static_cast<std::uint32_t>(of["queries"].size());
    Evictor evictor(**eviction, shape, compute, {layout},
                    {n_query_heads,
                     n_heads,
                     block.head_dim,
                     1.0F / std::sqrt(static_cast<float>(block.head_dim)),
                     rope_table(block),
                     {TokenKind::plain, TokenKind::punctuation, TokenKind::special}});
    CacheStatistics statistics(shape, evictor.wants());
    if (!statistics.empty()) {
      observe(compute,
              {layout, cache, evictor.points(n_rows), apart, credit_rule((*eviction)->policy)}, of,
              n_text, statistics);
    }
    if (evictor.points(n_rows).n_reread != 0) {  // nothing of it stays
      statistics.clear_from(n_text);
      cache.truncate(n_text);
    }
    const auto tokens = all["kinds"].get<std::vector<TokenId>>();
    EXPECT_TRUE(evictor.evict(cache, all["keep"].get<std::uint32_t>(), statistics, tokens));
    Values kept(n_heads);
    for (std::uint32_t h = 0; h < n_heads; ++h) {
      for (std::uint32_t row = 0; row < cache.n_stored(apart ? h : 0); ++row) {
        std::vector<float> value(block.head_dim);
        const std::byte* at = layout.pool + to_offset(table(cache, h).blocks()[row / 16]);
        if (of_keys) {
          layout.k->read_k(at, row % 16, block, value.data());
        } else {
          layout.v->read_v(at + layout.v_offset, row % 16, block, value.data());
        }
        kept[h].push_back(std::move(value));
      }
    }
    return kept;
  }

 private:
  ScratchDir dir_;
};

TEST_F(KeptSet, EqualsTheReferenceForMhaGqaAndMqa) {
  const nlohmann::json all = fixture();
  for (const nlohmann::json& of : all["cases"]) {
    for (const auto& [method, expected] : of["kept"].items()) {
      const std::map<std::string, std::string> parameters = {{"window", "sinks=4,every=0"},
                                                             {"h2o", "every=0"},
                                                             {"tova", "every=0"},
                                                             {"snapkv", "recent=6,window=6"},
                                                             {"ada-snapkv", "recent=6,window=6"},
                                                             {"scissorhands", "recent=6,window=6"},
                                                             {"keyformer", "every=0"},
                                                             {"fastgen", "recover-percent=80"},
                                                             {"pyramidinfer", "recent=6,window=6"}};
      const auto own = parameters.find(method);
      std::string text =
          method + ":" + (own != parameters.end() ? own->second : "sinks=4,recent=6");
      if (method.ends_with(":heads")) {
        text = method + "=" + write_heads(of["head_weights"]) +
               (method.starts_with("duo") ? ",sinks=4" : ",sinks=4,recent=6");
      }
      EXPECT_EQ(kept_by(text, all, of), expected.get<std::vector<Rows>>())
          << method << ", " << of["kv_heads"] << " KV heads";
    }
  }
}

TEST_F(KeptSet, TakesUpWhatIsDroppedAsTheReferenceDoes) {
  const nlohmann::json all = fixture();
  for (const nlohmann::json& of : all["cases"]) {
    for (const auto& [method, expected] : of["merged"].items()) {
      const bool of_keys = method.ends_with(":keys");
      const std::string text = method.starts_with("kvmerger") ? "kvmerger" : method + ":every=0";
      const Values got = values_kept_by(text, all, of, of_keys);
      const auto wanted = expected.get<Values>();
      ASSERT_EQ(got.size(), wanted.size());
      for (std::size_t head = 0; head < got.size(); ++head) {
        ASSERT_EQ(got[head].size(), wanted[head].size());
        for (std::size_t row = 0; row < got[head].size(); ++row) {
          for (std::size_t c = 0; c < got[head][row].size(); ++c) {
            ASSERT_NEAR(got[head][row][c], wanted[head][row][c], 1e-4F)
                << method << ", " << of["kv_heads"] << " KV heads, head " << head << ", row "
                << row;
          }
        }
      }
    }
  }
}

TEST_F(KeptSet, LotsDifferByHeadAndSeed) {
  const nlohmann::json all = fixture();
  const auto one = kept_by("random:seed=1,recent=4", all, all["cases"][0]);
  EXPECT_EQ(kept_by("random:seed=1,recent=4", all, all["cases"][0]), one);
  EXPECT_NE(kept_by("random:seed=2,recent=4", all, all["cases"][0]), one);
  EXPECT_NE(one[0], one[1]);
}

}  // namespace
}  // namespace larder
