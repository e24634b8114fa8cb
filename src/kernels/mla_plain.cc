#include <algorithm>
#include <array>

#include "codec/row_layout.h"
#include "kernels/latent_blocks.h"
#include "kernels/mla_attention.h"
#include "kernels/mla_tile.h"

namespace larder {
namespace {

constexpr std::uint32_t kPartTokens = 32;  // cached rows whose keys and values stay in the L1 cache

/// Which cached rows of a run a pass works on. Where the layer seals, a run takes two: queries see
/// the rows of earlier blocks as they were sealed, and those of their own as the open formats have
/// them.
enum class View : std::uint8_t { all, sealed, own };

struct Rows {  // of a run
  std::uint32_t begin, end;
  bool empty() const noexcept { return begin >= end; }
};

}  // namespace

/// One call of `attend_plain`.
class PlainForm {
 public:
  PlainForm(const Compute& compute, const LatentCall& call, LatentScratch& scratch)
      : compute_(compute), simd_(compute.simd), call_(call), s_(call.shape), scratch_(scratch) {}

  void attend(const LatentItem& item) {
    const std::uint32_t end = item.n_past() + item.n_rows;
    std::fill_n(scratch_.sum_.data(), std::size_t{item.n_rows} * s_.n_heads, 0.0F);
    for (std::uint32_t run = 0; run * kRunTokens < end; ++run) {
      if (call_.layout.seals()) {
        pass(item, run, View::sealed);
        pass(item, run, View::own);
      } else {
        pass(item, run, View::all);
      }
    }
    finish(item);
  }

 private:
  /// Rows of the run that the query at `position` sees.
  Rows seen(View view, std::uint32_t run, std::uint32_t position) const {
    const std::uint32_t begin = run * kRunTokens, n = rows_seen(run, position);
    if (view == View::all) return {0, n};
    const std::uint32_t own = position / s_.block_tokens * s_.block_tokens;
    const std::uint32_t n_sealed = own < begin ? 0 : std::min(own - begin, kRunTokens);
    if (view == View::sealed) return {0, n_sealed};
    return own / kRunTokens == run ? Rows{own - begin, n} : Rows{0, 0};
  }

  void pass(const LatentItem& item, std::uint32_t run, View view) {
    const auto seen_by = [&](std::uint32_t row) { return seen(view, run, item.n_past() + row); };
    Tile queries{0, item.n_rows};  // those that see any
    while (queries.first < queries.end && seen_by(queries.first).empty()) ++queries.first;
    while (queries.first < queries.end && seen_by(queries.end - 1).empty()) --queries.end;
    if (queries.first == queries.end) return;
    const Rows rows{seen_by(queries.first).begin, seen_by(queries.end - 1).end};
    read_run(item, run, view, rows);
    const std::size_t n = rows.end - rows.begin;
    scratch_.input_.set(scratch_.latents_.data() + std::size_t{rows.begin} * s_.kv_rank, n,
                        s_.kv_rank);
    for (std::uint32_t head = 0; head < s_.n_heads; ++head) {
      linear(compute_, call_.heads.k_up[head], scratch_.input_,
             scratch_.keys_.span().subspan(std::size_t{rows.begin} * s_.nope_dim), s_.nope_dim);
      linear(compute_, call_.heads.v_up[head], scratch_.input_,
             scratch_.values_.span().subspan(std::size_t{rows.begin} * s_.v_dim), s_.v_dim);
      pack_keys(rows);
      attend_pass({item, run, head, view}, queries);
    }
  }

  /// `rows` begin with a block.
  void read_run(const LatentItem& item, std::uint32_t run, View view, const Rows& rows) {
    const std::uint32_t n = s_.block_tokens;
    compute_.pool.for_each(
        (rows.end - rows.begin + n - 1) / n, [&](std::size_t task, unsigned thread) {
          const std::uint32_t first = rows.begin + static_cast<std::uint32_t>(task) * n;
          const LatentBlockReader reader(simd_, s_, call_.layout, workspace(thread));
          reader.read(latent_block(s_, call_.layout, item.step, (run * kRunTokens + first) / n,
                                   view == View::own),
                      std::min(n, rows.end - first),
                      scratch_.latents_.data() + std::size_t{first} * s_.kv_rank,
                      scratch_.ropes_.data() + std::size_t{first} * s_.rope_dim);
        });
  }

  /// Keys and rope parts into tiles of 16 rows, [key_dim][16], as the scores want them.
  void pack_keys(const Rows& rows) {
    compute_.pool.for_each(
        (rows.end - rows.begin + kTileTokens - 1) / kTileTokens, [&](std::size_t tile, unsigned) {
          const std::size_t first = rows.begin + tile * kTileTokens;
          const std::size_t n = std::min<std::size_t>(kTileTokens, rows.end - first);
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

  struct Tile {
    std::uint32_t first, end;  // rows of the item
  };
  struct Pass {  // of one head
    const LatentItem& item;
    std::uint32_t run, head;
    View view;
  };

  void attend_pass(const Pass& pass, const Tile& queries) {
    const std::uint32_t n_tiles = (queries.end - queries.first + kLatentTile - 1) / kLatentTile;
    compute_.pool.for_each(n_tiles, [&](std::size_t i, unsigned thread) {
      Tile tile{};
      tile.first = queries.first + static_cast<std::uint32_t>(i) * kLatentTile;
      tile.end = std::min(tile.first + kLatentTile, queries.end);
      attend_tile(pass, tile, thread);
    });
  }

  void attend_tile(const Pass& pass, const Tile& tile, unsigned thread) {
    const LatentItem& item = pass.item;
    float* q = workspace(thread);
    float* scores = q + kLatentTile * s_.key_dim();
    float* out = scores + kLatentTile * kRunTokens;
    const std::uint32_t n_q = tile.end - tile.first;
    const auto seen_by = [&](std::uint32_t i) {
      return seen(pass.view, pass.run, item.n_past() + tile.first + i);
    };
    for (std::uint32_t i = 0; i < n_q; ++i) {
      const float* from = call_.q + at(item, tile.first + i, pass.head) * s_.key_dim();
      for (std::uint32_t c = 0; c < s_.key_dim(); ++c) {
        q[i * s_.key_dim() + c] = s_.scale * from[c];
      }
    }
    const Rows rows{seen_by(0).begin, seen_by(n_q - 1).end};
    for (std::uint32_t t = rows.begin; t < rows.end; t += kPartTokens) {
      const std::uint32_t n = std::min(kPartTokens, (rows.end - t + 15) / 16 * 16);
      const simd::KvPart keys{reinterpret_cast<const std::byte*>(scratch_.tiles_.data() +
                                                                 std::size_t{t} * s_.key_dim()),
                              nullptr};
      simd_.scores_f32(q, keys, {n, s_.key_dim()}, {scores + t, n_q, kRunTokens});
    }
    std::array<Weighed, kLatentTile> states;
    for (std::uint32_t i = 0; i < n_q; ++i) {
      const Rows of_query = seen_by(i);
      float* const row = scores + i * kRunTokens;
      std::fill(row + rows.begin, row + of_query.begin, 0.0F);
      states[i] = weigh(simd_, row + of_query.begin, of_query.end - of_query.begin,
                        rows.end - of_query.begin);
    }
    std::fill_n(out, n_q * s_.v_dim, 0.0F);
    for (std::uint32_t t = rows.begin; t < rows.end; t += kPartTokens) {
      const simd::KvPart values{
          reinterpret_cast<const std::byte*>(scratch_.values_.data() + std::size_t{t} * s_.v_dim),
          nullptr};
      simd_.accumulate_f32({scores + t, n_q, kRunTokens}, values, {kPartTokens, s_.v_dim},
                           std::min(kPartTokens, rows.end - t), out);
    }
    merge(pass, tile, states.data(), out);
  }

  void merge(const Pass& pass, const Tile& tile, const Weighed* states, float* out) {
    for (std::uint32_t i = 0; i < tile.end - tile.first; ++i) {
      const std::size_t k = std::size_t{tile.first + i} * s_.n_heads + pass.head;
      float* into = call_.out + at(pass.item, tile.first + i, pass.head) * s_.v_dim;
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
    return (std::size_t{item.first_row()} + row) * s_.n_heads + head;
  }
  float* workspace(unsigned thread) {
    return scratch_.workspaces_.data() + thread * scratch_.thread_floats_;
  }

  const Compute& compute_;
  const simd::Table& simd_;
  const LatentCall& call_;
  const LatentShape& s_;
  LatentScratch& scratch_;
};

void append_latent_rows(const Compute& compute, const LatentShape& shape, const KvLayout& layout,
                        std::span<const AttentionItem> items, const float* rows) {
  if (items.empty()) return;  // `rows` may be null then
  append_rows(compute, 1, shape.parts(), layout, items,
              {rows + shape.kv_rank, rows, shape.row_dim(), shape.row_dim()});
}

void attend_plain(const Compute& compute, const LatentCall& call, LatentScratch& scratch) {
  PlainForm form(compute, call, scratch);
  for (const LatentItem& item : call.items) form.attend(item);
}

}  // namespace larder
