// Positions of blocks: keys that are turned as they are decoded are those that rope makes.
#include "kernels/turned_keys.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "codec/bf16.h"
#include "codec/kvq.h"
#include "kernels/attention_cache.h"
#include "kernels/random_keys.h"
#include "kernels/reference/attention.h"

namespace larder {
namespace {

RopeTable rope(std::size_t n_rot, bool adjacent) {
  RopeTable table;
  for (std::size_t i = 0; i < n_rot / 2; ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(n_rot);
    table.inv_freq.push_back(static_cast<float>(std::pow(10000.0, exponent)));
  }
  table.adjacent = adjacent;
  table.amplitude = 1.7F;  // of keys before rope already
  return table;
}

// Means of 0 and spreads of 1 leave nothing but the rotation.
TEST(BlockAngles, AreThoseOfRopeFarOut) {
  std::mt19937 rng(1);
  std::normal_distribution<float> normal;
  constexpr BlockShape kShape{32, 64};
  const std::vector<float> zeros(64, 0.0F), ones(64, 1.0F);
  for (const std::size_t n_rot : {64U, 32U, 20U}) {
    for (const bool adjacent : {false, true}) {
      RopeTable table = rope(n_rot, adjacent);
      const BlockAngles angles(table, 32, 100'001);
      table.amplitude = 1;
      for (const std::uint32_t block : {0U, 1U, 77U, 3125U}) {
        simd::KeyTurn turn{zeros.data(), ones.data(), ones.data(), 0,       false,
                           nullptr,      nullptr,     nullptr,     nullptr, 0};
        angles.set(block, turn);
        std::vector<std::byte> bf16(32 * 64 * 2);
        std::vector<std::vector<float>> rows(32, std::vector<float>(64));
        for (std::uint32_t t = 0; t < 32; ++t) {
          for (float& x : rows[t]) x = normal(rng);
          bf16_codec().append_k(rows[t].data(), t, kShape, bf16.data());
          bf16_codec().read_k(bf16.data(), t, kShape, rows[t].data());
        }
        simd::best().turn_keys(turn, kShape, bf16.data());
        for (std::uint32_t t = 0; t < 32; ++t) {
          const std::uint32_t position = block * 32 + t;
          std::vector<float> cos(n_rot / 2), sin(n_rot / 2), got(64);
          rope_angles(table, std::span(&position, 1), cos, sin);
          rope_rotate(table, cos, sin, rows[t].data(), 1, 64, 1, 64);
          bf16_codec().read_k(bf16.data(), t, kShape, got.data());
          for (std::size_t c = 0; c < 64; ++c) {
            ASSERT_NEAR(got[c], rows[t][c], 0x1p-8 * std::abs(rows[t][c]) + 1e-5)
                << "position " << position << " channel " << c;
          }
        }
      }
    }
  }
}

/// Every format: attention is that over decoded rows, and its bits depend on position alone.
TEST(TurnedKeys, AttentionAgreesWithTheReferenceWhateverTheSchedule) {
  ThreadPool two(2), one(1);
  std::mt19937 rng(2);
  const AttentionShape shape{4, 2, 64, 16, 0, 0.125F, 0};
  for (const KvCodec* codec : kv_codecs()) {
    if (codec->before_rope == nullptr) continue;
    SCOPED_TRACE(codec->name);
    AttentionCase c = make_case(shape, codec->format, KvFormat::rot4, {540, 70}, rng);
    c.raw_blocks = 1;
    for (const simd::Table* table : simd::available()) {
      PagedCache whole(c, rng), reference(c, rng), chunks(c, rng);
      whole.run({{{0, 540}}, {{1, 70}}}, {*table, one}, attend);
      const Schedule schedule = random_schedule(c, 100, rng);
      chunks.run(schedule, {*table, two}, attend);
      reference.run(schedule, {*table, two},
                    [](const Compute&, const AttentionShape& of, const KvLayout& layout,
                       std::span<const AttentionItem> items, const float* q, float* out,
                       AttentionScratch&) { reference::attend(of, layout, items, q, out); });
      for (std::size_t s = 0; s < c.lengths.size(); ++s) {
        EXPECT_EQ(chunks.out()[s], whole.out()[s]) << table->name;
        for (std::size_t i = 0; i < whole.out()[s].size(); ++i) {
          ASSERT_NEAR(whole.out()[s][i], reference.out()[s][i], table->rounds_bf16 ? 1.5e-2 : 1e-4)
              << table->name;
        }
      }
    }
  }
}

}  // namespace
}  // namespace larder
