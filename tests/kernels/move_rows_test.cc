#include "kernels/move_rows.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "kernels/cached_rows.h"

namespace larder {
namespace {

TEST(MoveRows, BringsKAndVOfEachHeadToTheBit) {
  std::mt19937 random(8);
  ThreadPool threads(2);
  const Compute compute{simd::best(), threads};
  for (const KvFormat k : {KvFormat::f32, KvFormat::f16, KvFormat::bf16}) {
    for (const KvFormat v : {KvFormat::f32, KvFormat::bf16}) {
      constexpr std::uint32_t kHeads = 3, kRows = 75;
      const BlockShape shape{32, 24};
      CachedRows cache(k, v, shape, kHeads, kRows);
      std::vector<std::vector<std::vector<float>>> keys(kHeads), values(kHeads);
      for (std::uint32_t h = 0; h < kHeads; ++h) {
        for (std::uint32_t row = 0; row < kRows; ++row) {
          cache.write(h, row, random_floats(shape.head_dim, random).data(),
                      random_floats(shape.head_dim, random).data());
          keys[h].push_back(cache.key(h, row));
          values[h].push_back(cache.value(h, row));
        }
      }
      std::vector<std::vector<std::uint32_t>> kept(kHeads);
      std::vector<std::vector<RowMove>> moves(kHeads);
      for (std::uint32_t h = 0; h < kHeads; ++h) {
        for (std::uint32_t row = 0; row < kRows; ++row) {
          if (random() % 2 == 0) continue;
          const auto to = static_cast<std::uint32_t>(kept[h].size());
          moves[h].push_back({cache.block(h, row), cache.block(h, to), row % 32, to % 32});
          kept[h].push_back(row);
        }
      }
      move_rows(compute, cache.layout(), shape, moves);
      for (std::uint32_t h = 0; h < kHeads; ++h) {
        for (std::uint32_t i = 0; i < kept[h].size(); ++i) {
          ASSERT_EQ(cache.key(h, i), keys[h][kept[h][i]]) << "head " << h << ", row " << i;
          ASSERT_EQ(cache.value(h, i), values[h][kept[h][i]]) << "head " << h << ", row " << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace larder
