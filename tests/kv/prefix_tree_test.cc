// The prefix tree against a model that remembers every text it has seen.
#include "kv/prefix_tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace larder {
namespace {

constexpr std::uint32_t kBlock = 16;
constexpr std::uint32_t kMaxTokens = 512;

using Tokens = std::vector<TokenId>;

struct Fixture {
  explicit Fixture(std::uint32_t window = 0, std::size_t n_extents = 400, bool seals = false) {
    shape.block_tokens = kBlock;
    const BlockClass sealed{static_cast<std::uint8_t>(seals ? 1 : 0)};
    shape.layers = {{2, 0, BlockClass{0}, sealed}, {2, window, BlockClass{0}}};
    BlockPoolOptions options;
    options.classes = {{1024, 2}, {512, 2}};
    options.budget_bytes = n_extents * 2048;
    pool.emplace(std::move(*BlockPool::create(options)));
    tree.emplace(shape, *pool, StripeDigest{});
  }
  /// What an engine does: share what there is, compute the rest, publish. Returns the rows shared.
  std::uint32_t run(const Tokens& tokens, const std::string& salt = "", std::uint32_t chunk = 1000,
                    std::uint32_t n_plain = 0) {
    SequenceCache cache(shape, *pool, kMaxTokens);
    const PrefixKey key{tokens, n_plain, salt};
    const auto n = static_cast<std::uint32_t>(tokens.size());
    const PrefixMatch match = tree->find(key, n);
    if (match.n_rows > 0) tree->share(match, cache);
    while (cache.n_rows() < n) {
      std::vector<BlockCopy> copies;
      const std::uint32_t rows = std::min(chunk, n - cache.n_rows());
      while (!cache.reserve(rows, copies)) {
        if (!tree->evict()) throw std::runtime_error("no room");
      }
      cache.commit(rows);
      tree->publish(key, cache, false);
    }
    tree->publish(key, cache, true);
    return match.n_rows;
  }
  CacheShape shape;
  std::optional<BlockPool> pool;
  std::optional<PrefixTree> tree;
};

std::uint32_t draw(std::mt19937& random, std::uint32_t n) {
  return static_cast<std::uint32_t>(random() % n);
}

Tokens counting(TokenId first, std::size_t n) {
  Tokens tokens(n);
  for (std::size_t i = 0; i < n; ++i) tokens[i] = first + static_cast<TokenId>(i);
  return tokens;
}

Tokens joined(Tokens a, const Tokens& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(PrefixTree, FindsWholeStripesAndTheBeginningOfOne) {
  Fixture f;
  const Tokens text = counting(0, 40);
  EXPECT_EQ(f.run(text), 0U);
  EXPECT_EQ(f.tree->n_stripes(), 3U);
  EXPECT_EQ(f.tree->find({text}, 40).n_rows, 40U);
  EXPECT_EQ(f.tree->find({text}, 39).n_rows, 39U);
  EXPECT_EQ(f.tree->find({text}, 39).end, PrefixEnd::covered);
  Tokens other = text;
  other[20] = 999;
  const PrefixMatch match = f.tree->find({other}, 40);
  EXPECT_EQ(match.n_rows, 20U);
  EXPECT_EQ(match.end, PrefixEnd::differs);
  EXPECT_EQ(match.cached_token, 20);
  other[0] = 998;
  EXPECT_EQ(f.tree->find({other}, 40).n_rows, 0U);
  EXPECT_EQ(f.tree->find({other}, 40).cached_token, 0);
}

TEST(PrefixTree, AContinuedTextTakesTheEndIntoItsStripe) {
  Fixture f;
  f.run(counting(0, 40));
  EXPECT_EQ(f.run(counting(0, 60)), 40U);
  EXPECT_EQ(f.tree->n_stripes(), 4U);  // 16, 16, 16, 12
  EXPECT_EQ(f.run(counting(0, 60)), 60U);
  EXPECT_EQ(f.tree->n_stripes(), 4U);
}

TEST(PrefixTree, SaltsShareNothing) {
  Fixture f;
  f.run(counting(0, 40), "a");
  EXPECT_EQ(f.tree->find({counting(0, 40), 0, "b"}, 40).end, PrefixEnd::new_salt);
  EXPECT_EQ(f.run(counting(0, 40), "b"), 0U);
  EXPECT_EQ(f.tree->summary().n_salts, 2U);
  EXPECT_EQ(f.tree->drop({{}, 0, "a"}), 3U);
  EXPECT_EQ(f.tree->summary().n_salts, 1U);
  EXPECT_EQ(f.tree->find({counting(0, 40), 0, "b"}, 40).n_rows, 40U);
}

TEST(PrefixTree, RowsOfAnotherFormAreNotShared) {
  Fixture f;
  const Tokens text = counting(0, 64);
  f.run(text, "", 1000, 32);
  EXPECT_EQ(f.tree->find({text, 32}, 64).n_rows, 64U);
  EXPECT_EQ(f.tree->find({text, 40}, 64).n_rows, 32U);
  EXPECT_EQ(f.tree->find({text, 0}, 64).n_rows, 0U);
  EXPECT_EQ(f.tree->find({text, 24}, 64).n_rows, 24U);
}

TEST(PrefixTree, TheSameTextComputedTwiceIsStoredOnce) {
  Fixture f;
  const Tokens text = counting(0, 64);
  SequenceCache a(f.shape, *f.pool, kMaxTokens), b(f.shape, *f.pool, kMaxTokens);
  std::vector<BlockCopy> copies;
  for (SequenceCache* cache : {&a, &b}) {
    ASSERT_TRUE(cache->reserve(64, copies));
    cache->commit(64);
  }
  const std::size_t one = a.bytes();
  EXPECT_EQ(f.pool->bytes_in_use(), 2 * one);
  f.tree->publish({text}, a, false);
  f.tree->publish({text}, b, false);
  EXPECT_EQ(f.pool->bytes_in_use(), one);
  EXPECT_EQ(f.tree->summary().n_deduplicated, 16U);  // 4 stripes of 2 layers and 2 heads
  EXPECT_EQ(f.tree->summary().only_bytes, 0U);
}

TEST(PrefixTree, EvictsWhatIsWorthLeastAndIdle) {
  Fixture f;
  const Tokens often = counting(0, 64), seldom = counting(1000, 64);
  f.run(often);
  f.run(seldom);
  f.run(often);
  f.run(often);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(f.tree->evict());
  EXPECT_EQ(f.tree->find({often}, 64).n_rows, 64U);
  const PrefixMatch match = f.tree->find({seldom}, 64);
  EXPECT_EQ(match.n_rows, 0U);
  EXPECT_EQ(match.end, PrefixEnd::evicted);
  EXPECT_EQ(f.tree->summary().n_evicted, 4U);
  while (f.tree->evict()) {
  }
  EXPECT_EQ(f.pool->bytes_in_use(), 0U);
}

TEST(PrefixTree, ASaltOfWhichNothingIsLeftRemembersWhatWent) {
  for (const PrefixEnd cause : {PrefixEnd::evicted, PrefixEnd::dropped}) {
    Fixture f;
    const Tokens text = counting(0, 40);
    f.run(text, "q");
    const PrefixMoment now = {7, 1.5, 12};
    if (cause == PrefixEnd::dropped) {
      EXPECT_EQ(f.tree->drop({{}, 0, "q"}, now), 3U);
    } else {
      while (f.tree->evict(now)) {
      }
    }
    EXPECT_EQ(f.tree->summary().n_salts, 0U);
    const PrefixMatch match = f.tree->find({text, 0, "q"}, 40);
    EXPECT_EQ(match.n_rows, 0U);
    EXPECT_EQ(match.end, cause);
    EXPECT_EQ(match.gone.step, 7U);
    EXPECT_EQ(match.gone.seconds, 1.5);
    EXPECT_EQ(match.gone.request, 12U);
    EXPECT_EQ(f.tree->find({text, 0, "q"}, 5).end, cause);  // a shorter prompt was cached, too
    EXPECT_EQ(f.tree->find({text, 0, "r"}, 40).end, PrefixEnd::new_salt);
    EXPECT_EQ(f.tree->find({counting(1, 40), 0, "q"}, 40).end, PrefixEnd::new_salt);
    f.run(counting(1, 40), "q");  // the salt is back, the text is not
    EXPECT_EQ(f.tree->find({text, 0, "q"}, 40).end, cause);
    EXPECT_EQ(f.tree->find({counting(2, 40), 0, "q"}, 40).end, PrefixEnd::differs);
  }
}

TEST(PrefixTree, AnEndThatWentIsKnownToAPromptThatEndsInIt) {
  Fixture f;
  f.run(counting(0, 44));  // 16, 16, 12
  ASSERT_TRUE(f.tree->evict({3, 0, 9}));
  const PrefixMatch match = f.tree->find({counting(0, 40)}, 39);
  EXPECT_EQ(match.n_rows, 32U);
  EXPECT_EQ(match.end, PrefixEnd::evicted);
  EXPECT_EQ(match.gone.request, 9U);
  EXPECT_EQ(f.tree->find({counting(0, 60)}, 59).end, PrefixEnd::unseen);
}

TEST(PrefixTree, WhereCachedTextsSimplyEndNothingDiffers) {
  Fixture f;
  f.run(counting(0, 40));
  const PrefixMatch after_tail = f.tree->find({counting(0, 60)}, 59);  // the next turn of a chat
  EXPECT_EQ(after_tail.n_rows, 40U);
  EXPECT_EQ(after_tail.end, PrefixEnd::unseen);
  EXPECT_EQ(after_tail.cached_token, -1);
  f.run(joined(counting(0, 40), counting(700, 60)));
  const PrefixMatch other = f.tree->find({counting(0, 60)}, 59);
  EXPECT_EQ(other.end, PrefixEnd::differs);
  EXPECT_EQ(other.cached_token, 700);
  f.run(counting(0, 32));
  EXPECT_EQ(f.tree->find({joined(counting(0, 100), {5})}, 100).end, PrefixEnd::differs);
}

TEST(PrefixTree, TheTextUsedMostIsShownWhereOthersDiffer) {
  Fixture f;
  for (const TokenId first : {100, 200, 300}) f.run(counting(first, 40));
  EXPECT_EQ(f.run(counting(200, 40)), 40U);
  EXPECT_EQ(f.tree->find({counting(900, 40)}, 40).cached_token, 200);
}

TEST(PrefixTree, OldUseFallsBehind) {
  Fixture f;
  const Tokens once_popular = counting(0, 32);
  for (int i = 0; i < 5; ++i) f.run(once_popular);
  for (int i = 1; i < 40; ++i) {
    f.run(counting(1000 * i, 32));
    f.run(counting(1000 * i, 32));
    f.tree->evict();
    f.tree->evict();
  }
  EXPECT_LT(f.tree->find({once_popular}, 32).n_rows, 32U);
}

TEST(PrefixTree, PinnedStaysAndDroppedGoes) {
  Fixture f;
  const Tokens text = counting(0, 64);
  f.run(text);
  EXPECT_EQ(f.tree->pin({text}, 40), 32U);
  EXPECT_EQ(f.tree->pinned_bytes(), 2U * 4096);
  while (f.tree->evict()) {
  }
  EXPECT_EQ(f.tree->drop({text}), 0U);
  EXPECT_EQ(f.tree->find({text}, 64).n_rows, 32U);
  EXPECT_EQ(f.tree->unpin({text}, 40), 32U);
  EXPECT_EQ(f.tree->drop({text}), 2U);
  EXPECT_EQ(f.tree->find({text}, 64).end, PrefixEnd::dropped);  // with the last of its salt
  EXPECT_EQ(f.pool->bytes_in_use(), 0U);
}

TEST(PrefixTree, DropLeavesWhatOnlyBeginsAlike) {
  Fixture f;
  const Tokens text = counting(0, 64), beside = joined(counting(0, 40), counting(500, 24));
  f.run(text);
  f.run(beside);
  EXPECT_EQ(f.tree->drop({counting(900, 64)}), 0U);  // nothing of it is cached
  EXPECT_EQ(f.tree->drop({counting(900, 5)}), 0U);
  EXPECT_EQ(f.tree->drop({counting(0, 41)}), 2U);  // the end of `text`, behind two stripes
  EXPECT_EQ(f.tree->find({beside}, 64).n_rows, 64U);
  EXPECT_EQ(f.tree->find({text}, 64).n_rows, 40U);
  EXPECT_EQ(f.tree->drop({counting(0, 5)}), 4U);  // all that begins so
  EXPECT_EQ(f.pool->bytes_in_use(), 0U);
}

TEST(PrefixTree, AWindowThatLetGoOfRowsIsNoPlaceToGoOnFrom) {
  Fixture f(24);
  const Tokens text = counting(0, 200);
  f.run(text, "", 64);
  EXPECT_EQ(f.tree->find({text}, 200).n_rows, 200U);
  EXPECT_EQ(f.tree->find({text}, 64).n_rows, 64U);  // a step ended here: its window was there
  const PrefixMatch between = f.tree->find({text}, 96);
  EXPECT_EQ(between.n_rows, 64U);
  EXPECT_EQ(between.end, PrefixEnd::window);
}

TEST(PrefixTree, RowsOfASealedBlockAreSharedAllTogether) {
  Fixture f(0, 400, true);
  const Tokens text = counting(0, 40);
  EXPECT_EQ(f.run(text), 0U);
  EXPECT_EQ(f.tree->find({text}, 40).n_rows, 40U);
  EXPECT_EQ(f.tree->find({text}, 35).n_rows, 35U);  // rows of an open block
  const PrefixMatch inside = f.tree->find({text}, 31);
  EXPECT_EQ(inside.n_rows, 16U);
  EXPECT_EQ(inside.nodes.size(), 1U);
  EXPECT_EQ(inside.end, PrefixEnd::sealed);
  Tokens other = text;
  other[20] = 999;
  EXPECT_EQ(f.tree->find({other}, 40).n_rows, 16U);
  EXPECT_EQ(f.tree->find({other}, 40).end, PrefixEnd::sealed);
  EXPECT_EQ(f.tree->find({other}, 40).cached_token, -1);
  other[16] = 998;
  EXPECT_EQ(f.tree->find({other}, 40).end, PrefixEnd::differs);
  EXPECT_EQ(f.run(counting(0, 60)), 40U);
  EXPECT_EQ(f.tree->n_stripes(), 4U);  // 16, 16, 16, 12
  while (f.tree->evict()) {
  }
  EXPECT_EQ(f.pool->bytes_in_use(), 0U);
}

/// Rows of `text` that texts seen before cover: the longest common beginning.
std::uint32_t longest(const std::vector<Tokens>& seen, const Tokens& text) {
  std::size_t best = 0;
  for (const Tokens& other : seen) {
    const auto differ = std::mismatch(text.begin(), text.end(), other.begin(), other.end());
    best = std::max<std::size_t>(best, differ.first - text.begin());
  }
  return static_cast<std::uint32_t>(best);
}

TEST(PrefixTree, RandomTextsAgreeWithTheModel) {
  std::mt19937 random(5);
  for (int round = 0; round < 20; ++round) {
    Fixture f(0, 5000);
    std::map<std::string, std::vector<Tokens>> seen;
    for (int i = 0; i < 40; ++i) {
      const std::string salt = random() % 4 == 0 ? "tenant" : "";
      Tokens text;
      const std::size_t n = 1 + random() % 120;
      while (text.size() < n) {  // runs of a few kinds, so that beginnings repeat
        text = joined(std::move(text),
                      counting(static_cast<TokenId>(random() % 2) * 100, 1 + draw(random, 40)));
      }
      text.resize(n);
      const std::uint32_t expected = longest(seen[salt], text);
      // What a stripe's first rows have in common with one text may end before another's.
      ASSERT_EQ(f.run(text, salt, 1 + draw(random, 100)), expected);
      seen[salt].push_back(text);
    }
    std::size_t n_evicted = 0;
    while (f.tree->evict()) ++n_evicted;
    EXPECT_EQ(f.tree->n_stripes(), 0U);
    EXPECT_EQ(f.pool->bytes_in_use(), 0U);
    EXPECT_GT(n_evicted, 0U);
  }
}

TEST(PrefixTree, RandomTextsOfSealedBlocksAreFoundToTheBlock) {
  std::mt19937 random(7);
  for (int round = 0; round < 20; ++round) {
    Fixture f(0, 5000, true);
    std::vector<Tokens> seen;
    for (int i = 0; i < 40; ++i) {
      Tokens text = joined(counting(static_cast<TokenId>(random() % 2) * 100, 1 + draw(random, 60)),
                           counting(static_cast<TokenId>(random() % 3) * 7, 1 + draw(random, 60)));
      const std::uint32_t all = longest(seen, text);
      const std::uint32_t shared = f.run(text, "", 1 + draw(random, 100));
      ASSERT_LE(shared, all);
      ASSERT_GE(shared, all / kBlock * kBlock);
      seen.push_back(text);
    }
    while (f.tree->evict()) {
    }
    EXPECT_EQ(f.pool->bytes_in_use(), 0U);
  }
}

TEST(PrefixTree, GivesWayUnderPressureAndTheBytesAddUp) {
  std::mt19937 random(6);
  constexpr std::uint32_t kWindows[] = {0, 24, 0, 24};
  for (std::size_t round = 0; round < 4; ++round) {
    Fixture f(kWindows[round], 60, round >= 2);  // room for 240 rows of both layers
    for (int i = 0; i < 300; ++i) {
      f.run(joined(counting(static_cast<TokenId>(random() % 3) * 1000, random() % 100),
                   counting(static_cast<TokenId>(random() % 1000) + 5000, 1 + random() % 60)),
            random() % 2 == 0 ? "a" : "b", 1 + draw(random, 64));
      ASSERT_LE(f.pool->bytes_in_use(), f.pool->budget_bytes());
      ASSERT_EQ(f.tree->summary().only_bytes, f.pool->bytes_in_use());
    }
    EXPECT_GT(f.tree->summary().n_evicted, 0U);
    f.tree.reset();
    EXPECT_EQ(f.pool->bytes_in_use(), 0U);
  }
}

}  // namespace
}  // namespace larder
