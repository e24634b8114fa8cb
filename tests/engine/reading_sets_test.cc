// Which blocks queries read, against those that numpy chose
// (tests/fixtures/make_reading_fixtures.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "engine/reading_plan.h"
#include "kernels/chooser.h"

namespace larder {
namespace {

using Lists = std::vector<std::vector<std::uint32_t>>;  // [n_kv_heads]: blocks, its own the last

/// SplitMix64 (Steele et al. 2014).
std::uint64_t mixed(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

/// [n_rows, n_heads, head_dim] of whole numbers from -most to most, as the script draws them.
std::vector<float> draw(const nlohmann::json& all, std::uint64_t kind, std::uint64_t n_heads,
                        std::int32_t most) {
  const std::uint64_t n =
      all["rows"].get<std::uint64_t>() * n_heads * all["head_dim"].get<std::uint64_t>();
  std::vector<float> values;
  for (std::uint64_t i = 0; i < n; ++i) {
    const std::uint64_t bits = mixed((all["seed"].get<std::uint64_t>() << 32) + (kind << 24) + i);
    const std::uint64_t n_values = 2 * static_cast<std::uint64_t>(most) + 1;
    values.push_back(static_cast<float>(static_cast<std::int32_t>((bits >> 40) % n_values) - most));
  }
  return values;
}

ReadingPlan plan_of(const nlohmann::json& of, std::uint32_t block_tokens) {
  KvOptions options;
  options.block_tokens = block_tokens;
  options.policy = of["policy"];
  options.keep = of["keep"];
  const auto eviction = eviction_options(options);
  EXPECT_TRUE(eviction) << eviction.error().message;
  const auto plan = reading_plan(*eviction, options);
  EXPECT_TRUE(plan) << plan.error().message;
  return **plan;
}

AttentionCase case_of(const nlohmann::json& all, const nlohmann::json& of, BlockMarks marks) {
  AttentionCase c;
  c.shape = {.n_heads = all["heads"],
             .n_kv_heads = of["kv_heads"],
             .head_dim = all["head_dim"],
             .block_tokens = all["block"]};
  c.shape.scale = 1 / std::sqrt(static_cast<float>(c.shape.head_dim));
  c.lengths = {all["rows"].get<std::uint32_t>()};
  c.q = {draw(all, 0, c.shape.n_heads, 63)};
  c.key = {draw(all, 1, c.shape.n_kv_heads, 63)};
  c.value = c.key;
  c.marks = marks;
  return c;
}

/// Places in the table of the blocks that an item has.
Lists lists_of(const AttentionItem& chosen, const AttentionItem& all) {
  Lists lists;
  for (std::size_t head = 0; head < all.heads.size(); ++head) {
    auto& list = lists.emplace_back();
    const auto table = all.heads[head].blocks;
    for (const BlockId block : chosen.heads[head].blocks) {
      list.push_back(
          static_cast<std::uint32_t>(std::find(table.begin(), table.end(), block) - table.begin()));
    }
  }
  return lists;
}

TEST(ReadingSets, EqualTheReferenceForMhaGqaAndMqa) {
  std::ifstream in(std::string(LARDER_TEST_DATA) + "/policy/read_blocks.json");
  const nlohmann::json all = nlohmann::json::parse(in);
  const auto n_prompt = all["prompt"].get<std::uint32_t>();
  std::mt19937 random(23);
  for (const nlohmann::json& of : all["cases"]) {
    SCOPED_TRACE(of["policy"].get<std::string>() + ", " + of["kv_heads"].dump() + " KV heads");
    const ReadingPlan plan = plan_of(of, all["block"]);
    const bool by_blocks = of.contains("blocks");  // of prompts, too
    EXPECT_EQ(plan.n_full_layers, by_blocks ? 0U : 2U);
    const AttentionCase c = case_of(all, of, plan.rule.marks);
    const Reads reads{plan.rule, n_prompt};
    ThreadPool threads(2);
    std::vector<bool> is_checked(c.lengths[0]);
    Chooser chooser(c, reads, threads.n_threads());
    chooser.check_with([&](const Compute& compute, const BlockChoice::Call& call,
                           BlockChoice& choice) {
      for (const AttentionItem& item : choice.choose(compute, call, 0)) {
        const std::uint32_t position = call.items[0].n_past + item.first_row;
        const bool of_prompt = position < n_prompt;
        if (of_prompt && !by_blocks) continue;  // reads everything
        const nlohmann::json& expected = of_prompt ? of["blocks"][position / c.shape.block_tokens]
                                                   : of["rows"][position - n_prompt];
        ASSERT_EQ(lists_of(item, call.items[0]), expected.get<Lists>()) << position;
        std::fill_n(is_checked.begin() + position, item.n_rows, true);
      }
    });
    PagedCache cache(c, random);
    cache.run(random_schedule(c, 40, random), {simd::best(), threads}, by(chooser));
    const auto begin = is_checked.begin() + (by_blocks ? 0 : n_prompt);
    EXPECT_TRUE(std::all_of(begin, is_checked.end(), [](bool b) { return b; }));
  }
}

}  // namespace
}  // namespace larder
