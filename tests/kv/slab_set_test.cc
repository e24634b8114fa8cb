#include "kv/slab_set.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace larder {
namespace {

TEST(SlabSet, AgreesWithASetOfNumbers) {
  for (const std::size_t capacity : {1U, 63U, 64U, 65U, 4096U, 5000U, 300000U}) {
    std::mt19937 random(static_cast<unsigned>(capacity));
    SlabSet slabs(capacity);
    std::set<std::uint32_t> model;
    for (int step = 0; step < 3000; ++step) {
      const auto slab = static_cast<std::uint32_t>(random() % capacity);
      if (random() % 2 == 0) {
        slabs.insert(slab);
        model.insert(slab);
      } else {
        const std::uint32_t gone = model.empty() || random() % 2 == 0 ? slab : *model.begin();
        slabs.erase(gone);
        model.erase(gone);
      }
      ASSERT_EQ(slabs.size(), model.size());
      ASSERT_EQ(slabs.contains(slab), model.contains(slab));
      ASSERT_EQ(slabs.lowest().has_value(), !model.empty());
      if (!model.empty()) {
        ASSERT_EQ(*slabs.lowest(), *model.begin());
      }
    }
  }
}

}  // namespace
}  // namespace larder
