#include <algorithm>
#include <array>

#include "base/check.h"
#include "codec/row_layout.h"
#include "kernels/mla_attention.h"
#include "kernels/mla_tile.h"

namespace larder {
namespace {

constexpr std::uint32_t kPartTokens = 32;  // cached rows whose keys and values stay in the L1 cache
constexpr std::uint32_t kReadRows = 16;    // rows that a task reads or packs

}  // namespace

/// One call of `attend_plain`.
class PlainForm {
 public:
  PlainForm(const Compute& compute, const LatentCall& call, LatentScratch& scratch)
      : compute_(compute), simd_(compute.simd), call_(call), s_(call.shape), scratch_(scratch) {}

  void attend(const LatentItem& item) {
    const std::uint32_t end = item.n_past + item.n_rows;
    std::fill_n(scratch_.sum_.data(), std::size_t{item.n_rows} * s_.n_heads, 0.0F);
    for (std::uint32_t run = 0; run * kRunTokens < end; ++run) {
      n_cached_ = std::min(kRunTokens, end - run * kRunTokens);
      read_run(item, run);
      scratch_.input_.set(scratch_.latents_.data(), n_cached_, s_.kv_rank);
      for (std::uint32_t head = 0; head < s_.n_heads; ++head) {
        linear(compute_, call_.heads.k_up[head], scratch_.input_, scratch_.keys_.span(),
               s_.nope_dim);
        linear(compute_, call_.heads.v_up[head], scratch_.input_, scratch_.values_.span(),
               s_.v_dim);
        pack_keys();
        attend_run(item, run, head);
      }
    }
    finish(item);
  }

 private:
  void read_run(const LatentItem& item, std::uint32_t run) {
    const BlockShape block_shape{s_.block_tokens, s_.row_dim()};
    compute_.pool.for_each(
        (n_cached_ + kReadRows - 1) / kReadRows, [&](std::size_t task, unsigned thread) {
          float* row = workspace(thread);
          const auto first = static_cast<std::uint32_t>(task) * kReadRows;
          for (std::uint32_t i = first; i < std::min(first + kReadRows, n_cached_); ++i) {
            const std::uint32_t position = run * kRunTokens + i;
            const std::size_t index = position / s_.block_tokens - item.cached.first_block;
            LARDER_DCHECK(index < item.cached.blocks.size());
            call_.layout.v->read_v(call_.layout.pool + to_offset(item.cached.blocks[index]),
                                   position % s_.block_tokens, block_shape, row);
            std::copy_n(row, s_.kv_rank, scratch_.latents_.data() + std::size_t{i} * s_.kv_rank);
            std::copy_n(row + s_.kv_rank, s_.rope_dim,
                        scratch_.ropes_.data() + std::size_t{i} * s_.rope_dim);
          }
        });
  }

  /// Keys and rope parts into tiles of 16 rows, [key_dim][16], as the scores want them.
  void pack_keys() {
    compute_.pool.for_each(
        (n_cached_ + kTileTokens - 1) / kTileTokens, [&](std::size_t tile, unsigned) {
          const std::size_t first = tile * kTileTokens;
          const std::size_t n = std::min<std::size_t>(kTileTokens, n_cached_ - first);
          float* to = scratch_.tiles_.data() + first * s_.key_dim();
          const float* key = scratch_.keys_.data() + first * s_.nope_dim;
          const float* rope = scratch_.ropes_.data() + first * s_.rope_dim;
          for (std::size_t c = 0; c < s_.nope_dim; ++c, to += kTileTokens) {
            for (std::size_t i = 0; i < n; ++i) to[i] = key[i * s_.nope_dim + c];
          }
          for (std::size_t c = 0; c < s_.rope_dim; ++c, to += kTileTokens) {
            for (std::size_t i = 0; i < n; ++i) to[i] = rope[i * s_.rope_dim + c];
          }
        });
  }

  void attend_run(const LatentItem& item, std::uint32_t run, std::uint32_t head) {
    const std::uint32_t begin = run * kRunTokens;
    const std::uint32_t first = begin > item.n_past ? begin - item.n_past : 0;  // that sees any
    const std::uint32_t n_tiles = (item.n_rows - first + kLatentTile - 1) / kLatentTile;
    compute_.pool.for_each(n_tiles, [&](std::size_t i, unsigned thread) {
      Tile tile{};
      tile.first = first + static_cast<std::uint32_t>(i) * kLatentTile;
      tile.n = std::min(kLatentTile, item.n_rows - tile.first);
      attend_tile(item, run, head, tile, thread);
    });
  }

  struct Tile {
    std::uint32_t first, n;  // rows of the item
  };

  void attend_tile(const LatentItem& item, std::uint32_t run, std::uint32_t head, const Tile& tile,
                   unsigned thread) {
    float* q = workspace(thread);
    float* scores = q + kLatentTile * s_.key_dim();
    float* out = scores + kLatentTile * kRunTokens;
    for (std::uint32_t i = 0; i < tile.n; ++i) {
      const float* from = call_.q + at(item, tile.first + i, head) * s_.key_dim();
      for (std::uint32_t c = 0; c < s_.key_dim(); ++c) {
        q[i * s_.key_dim() + c] = s_.scale * from[c];
      }
    }
    const std::uint32_t last = item.n_past + tile.first + tile.n - 1;  // position of its last row
    const std::uint32_t n_all = rows_seen(run, last);
    for (std::uint32_t t = 0; t < n_all; t += kPartTokens) {
      const std::uint32_t n = std::min(kPartTokens, (n_all - t + 15) / 16 * 16);
      const simd::KvPart keys{reinterpret_cast<const std::byte*>(scratch_.tiles_.data() +
                                                                 std::size_t{t} * s_.key_dim()),
                              nullptr};
      simd_.scores_f32(q, keys, {n, s_.key_dim()}, {scores + t, tile.n, kRunTokens});
    }
    std::array<Weighed, kLatentTile> states;
    for (std::uint32_t i = 0; i < tile.n; ++i) {
      const std::uint32_t n_seen = rows_seen(run, item.n_past + tile.first + i);
      states[i] = weigh(simd_, scores + i * kRunTokens, n_seen, n_all);
    }
    std::fill_n(out, tile.n * s_.v_dim, 0.0F);
    for (std::uint32_t t = 0; t < n_all; t += kPartTokens) {
      const simd::KvPart values{
          reinterpret_cast<const std::byte*>(scratch_.values_.data() + std::size_t{t} * s_.v_dim),
          nullptr};
      simd_.accumulate_f32({scores + t, tile.n, kRunTokens}, values, {kPartTokens, s_.v_dim},
                           std::min(kPartTokens, n_all - t), out);
    }
    merge(item, head, tile, states.data(), out);
  }

  void merge(const LatentItem& item, std::uint32_t head, const Tile& tile, const Weighed* states,
             float* out) {
    for (std::uint32_t i = 0; i < tile.n; ++i) {
      const std::size_t k = std::size_t{tile.first + i} * s_.n_heads + head;
      float* into = call_.out + at(item, tile.first + i, head) * s_.v_dim;
      AttentionState state{scratch_.max_[k], scratch_.sum_[k], into};
      merge_state(state, {states[i].max, states[i].sum, out + i * s_.v_dim}, s_.v_dim);
      scratch_.max_[k] = state.max;
      scratch_.sum_[k] = state.sum;
    }
  }

  void finish(const LatentItem& item) {
    compute_.pool.for_each(item.n_rows, [&](std::size_t row, unsigned) {
      for (std::uint32_t head = 0; head < s_.n_heads; ++head) {
        const float sum = scratch_.sum_[row * s_.n_heads + head];
        simd_.scale(1.0F / sum,
                    call_.out + at(item, static_cast<std::uint32_t>(row), head) * s_.v_dim,
                    s_.v_dim);
      }
    });
  }

  /// Index of a query among all rows and heads of the batch.
  std::size_t at(const LatentItem& item, std::uint32_t row, std::uint32_t head) const {
    return (std::size_t{item.first_row} + row) * s_.n_heads + head;
  }
  float* workspace(unsigned thread) {
    return scratch_.workspaces_.data() + thread * scratch_.thread_floats_;
  }

  const Compute& compute_;
  const simd::Table& simd_;
  const LatentCall& call_;
  const LatentShape& s_;
  LatentScratch& scratch_;
  std::uint32_t n_cached_ = 0;  // rows of the run at hand
};

void append_latent_rows(const Compute& compute, const LatentShape& shape, const KvLayout& layout,
                        std::span<const LatentItem> items, const float* rows) {
  const BlockShape block_shape{shape.block_tokens, shape.row_dim()};
  compute.pool.for_each(items.size(), [&](std::size_t task, unsigned) {
    const LatentItem& item = items[task];
    for (std::uint32_t r = 0; r < item.n_rows; ++r) {
      const std::uint32_t position = item.n_past + r;
      const std::size_t index = position / shape.block_tokens - item.cached.first_block;
      LARDER_DCHECK(index < item.cached.blocks.size());
      layout.v->append_v(rows + (std::size_t{item.first_row} + r) * shape.row_dim(),
                         position % shape.block_tokens, block_shape,
                         layout.pool + to_offset(item.cached.blocks[index]));
    }
  });
}

void attend_plain(const Compute& compute, const LatentCall& call, LatentScratch& scratch) {
  PlainForm form(compute, call, scratch);
  for (const LatentItem& item : call.items) form.attend(item);
}

}  // namespace larder
