// Attention in which queries choose blocks, over the sequences of PagedCache.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "kernels/attention_cache.h"
#include "kernels/block_choice.h"
#include "kernels/key_samples.h"

namespace larder {

struct Reads {
  BlockRule rule;
  std::uint32_t n_full;  // first rows of each sequence, which read as a prompt
};

inline AttentionShape random_choice_shape(std::mt19937& random) {
  const auto pick = [&](std::initializer_list<std::uint32_t> values) {
    return values.begin()[random() % values.size()];
  };
  AttentionShape shape{};
  shape.n_kv_heads = pick({1, 2, 3});
  shape.n_heads = shape.n_kv_heads * pick({1, 2, 3, 4, 7});
  shape.head_dim = pick({16, 32, 64, 80});
  shape.block_tokens = pick({16, 32, 64});
  shape.scale = 1 / std::sqrt(static_cast<float>(shape.head_dim));
  shape.soft_cap = random() % 3 == 0 ? 5.0F : 0.0F;
  return shape;
}

/// Attention for PagedCache.
class Chooser {
 public:
  Chooser(const AttentionCase& c, const Reads& reads, unsigned n_threads,
          std::size_t list_bytes = std::size_t{1} << 20)
      : reads_(reads),
        choice_(c.shape, reads.rule,
                {n_threads, std::accumulate(c.lengths.begin(), c.lengths.end(), 0U),
                 static_cast<std::uint32_t>(c.lengths.size()),
                 *std::max_element(c.lengths.begin(), c.lengths.end()), list_bytes}) {}

  void operator()(const Compute& compute, const AttentionShape& shape, const KvLayout& layout,
                  std::span<const AttentionItem> items, const float* q, float* out,
                  AttentionScratch& scratch) {
    std::vector<std::uint32_t> n_full;
    for (const AttentionItem& item : items) {
      const std::uint32_t n = reads_.n_full - std::min(reads_.n_full, item.n_past);
      n_full.push_back(std::min(n, item.n_rows));
    }
    const BlockChoice::Call call{shape, layout, items, n_full, q, out, scratch};
    if (layout.marks == BlockMarks::samples) {
      write_key_samples(compute, shape, layout, items, q,
                        {reads_.rule.n_local, reads_.rule.n_representatives});
    }
    choice_.attend_chosen(compute, call);
    if (check_) check_(compute, call, choice_);
  }

  using Check = std::function<void(const Compute&, const BlockChoice::Call&, BlockChoice&)>;
  void check_with(Check check) { check_ = std::move(check); }

 private:
  const Reads& reads_;
  BlockChoice choice_;
  Check check_;
};

inline PagedCache::AttendFn by(Chooser& chooser) {
  return [&chooser](const Compute& compute, const AttentionShape& shape, const KvLayout& layout,
                    std::span<const AttentionItem> items, const float* q, float* out,
                    AttentionScratch& scratch) {
    chooser(compute, shape, layout, items, q, out, scratch);
  };
}

inline bool same_bits(const std::vector<std::vector<float>>& a,
                      const std::vector<std::vector<float>>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
  });
}

}  // namespace larder
