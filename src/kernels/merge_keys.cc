// Keys at different positions, compared and added up.
#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/merge_values.h"

namespace larder {
namespace {

/// Turns keys from their position to another.
class KeyTurn {
 public:
  KeyTurn(const RopeTable& rope, std::size_t head_dim)
      : table_(rope), d_(head_dim), cos_(rope.inv_freq.size()), sin_(cos_.size()) {
    table_.amplitude = 1.0F;  // keys have it already
  }
  void turn(std::uint32_t from, std::uint32_t to, float* key) {
    if (from == to) return;
    const std::uint32_t by = from < to ? to - from : from - to;
    rope_angles(table_, std::span(&by, 1), cos_, sin_);
    if (to < from) {
      for (float& s : sin_) s = -s;
    }
    rope_rotate(table_, cos_, sin_, key, 1, d_, 1, static_cast<std::uint32_t>(d_));
  }

 private:
  RopeTable table_;
  std::size_t d_;
  std::vector<float> cos_, sin_;
};

}  // namespace

void neighbour_likeness(const Compute& compute, const KeyRows& keys, std::size_t head,
                        const RopeTable& rope, std::span<float> out) {
  const std::size_t d = keys.shape.head_dim;
  LARDER_CHECK(keys.n_rows > 0 && out.size() == keys.n_rows - 1);
  KeyTurn turn(rope, d);
  std::vector<float> key(d), next(d);
  read_key(keys, head, 0, key.data());
  for (std::uint32_t i = 0; i < out.size(); ++i) {
    read_key(keys, head, i + 1, next.data());
    const float norms = std::sqrt(compute.simd.sum_squares(key.data(), d)) *
                        std::sqrt(compute.simd.sum_squares(next.data(), d));
    turn.turn(i, i + 1, key.data());
    out[i] = compute.simd.dot(key.data(), next.data(), d) / std::max(norms, kLeastNorm);
    std::swap(key, next);
  }
}

void measure_distances(const Compute& compute, const KeyRows& keys, std::size_t head,
                       const RopeTable& rope, std::span<KeyDistance> pairs) {
  const std::size_t d = keys.shape.head_dim;
  KeyTurn turn(rope, d);
  std::vector<float> from(d), to(d);
  for (KeyDistance& pair : pairs) {
    read_key(keys, head, pair.from, from.data());
    read_key(keys, head, pair.to, to.data());
    turn.turn(pair.from, pair.to, from.data());
    compute.simd.axpy(-1.0F, to.data(), from.data(), d);
    pair.distance = std::sqrt(compute.simd.sum_squares(from.data(), d));
  }
}

void sum_keys(const Compute& compute, const KeyRows& keys, std::size_t head, const RopeTable& rope,
              std::span<const std::uint32_t> kept, std::span<const RowMerge> merges,
              std::span<float> sums) {
  const std::size_t d = keys.shape.head_dim;
  LARDER_CHECK(sums.size() == kept.size() * d);
  std::fill(sums.begin(), sums.end(), 0.0F);
  KeyTurn turn(rope, d);
  std::vector<float> key(d);
  for (const RowMerge& merge : merges) {
    read_key(keys, head, merge.from, key.data());
    turn.turn(merge.from, kept[merge.to], key.data());
    compute.simd.axpy(merge.weight, key.data(), sums.data() + merge.to * d, d);
  }
}

void add_keys(const KeyRows& rows, std::size_t head, std::span<const float> own,
              std::span<const float> sums) {
  const std::size_t d = rows.shape.head_dim;
  LARDER_CHECK(!rows.layout.seals() && sums.size() == own.size() * d);
  std::vector<float> key(d);
  for (std::uint32_t t = 0; t < own.size(); ++t) {
    if (own[t] == 1) continue;  // nothing joined it
    read_key(rows, head, t, key.data());
    for (std::size_t c = 0; c < d; ++c) key[c] = own[t] * key[c] + sums[t * d + c];
    const BlockId block = rows.heads[head].blocks[t / rows.shape.block_tokens];
    rows.layout.k->append_k(key.data(), t % rows.shape.block_tokens, rows.shape,
                            rows.layout.pool + to_offset(block));
  }
}

}  // namespace larder
