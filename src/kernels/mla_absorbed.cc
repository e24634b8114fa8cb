#include <algorithm>
#include <array>

#include "kernels/latent_blocks.h"
#include "kernels/mla_attention.h"
#include "kernels/mla_tile.h"

namespace larder {

/// One call of `attend_absorbed`, `kAbsorbedRows` rows at a time.
class AbsorbedForm {
 public:
  AbsorbedForm(const Compute& compute, const LatentCall& call, LatentScratch& scratch)
      : compute_(compute),
        call_(call),
        s_(call.shape),
        scratch_(scratch),
        group_(std::min(s_.n_heads, kLatentTile)),
        tile_rows_(std::max(1U, kLatentTile / s_.n_heads)) {}

  void add(const LatentItem& item) {
    for (std::uint32_t row = 0; row < item.n_rows;) {
      if (n_rows_ == kAbsorbedRows) flush();
      const std::uint32_t n = std::min(item.n_rows - row, kAbsorbedRows - n_rows_);
      parts_[n_parts_++] = {&item, row, n, n_rows_};
      n_rows_ += n;
      row += n;
    }
  }

  void flush() {
    if (n_rows_ == 0) return;
    absorb_queries();
    std::fill_n(scratch_.absorbed_sum_.data(), std::size_t{n_rows_} * s_.n_heads, 0.0F);
    n_tasks_ = 0;
    for (std::size_t i = 0; i < n_parts_; ++i) plan(parts_[i]);
    run_wave();
    leave_latent_space();
    n_rows_ = 0;
    n_parts_ = 0;
  }

 private:
  struct Part {  // rows of an item
    const LatentItem* item;
    std::uint32_t first, n_rows;  // of the item
    std::uint32_t at;             // the first one's place among those at hand
  };
  struct Task {  // a tile of queries over one run; its states go to the slot of the same number
    const Part* part;
    std::uint32_t first, n_rows;  // of the part
    std::uint32_t first_head, n_heads;
    std::uint32_t run;
  };

  std::size_t batch_row(const Part& part, std::uint32_t row) const {
    return std::size_t{part.item->first_row()} + part.first + row;
  }

  /// q_absorbed_ = scale * (k_absorb q_nope, q_rope), in the basis of the cached rows.
  void absorb_queries() {
    const std::size_t row_dim = s_.row_dim(), key_dim = s_.key_dim();
    for (std::uint32_t head = 0; head < s_.n_heads; ++head) {
      for (std::size_t i = 0; i < n_parts_; ++i) {
        for (std::uint32_t r = 0; r < parts_[i].n_rows; ++r) {
          const float* q = call_.q + (batch_row(parts_[i], r) * s_.n_heads + head) * key_dim;
          const std::size_t row = parts_[i].at + r;
          float* in = scratch_.head_in_.data() + row * s_.nope_dim;
          for (std::uint32_t c = 0; c < s_.nope_dim; ++c) in[c] = s_.scale * q[c];
          float* rope =
              scratch_.q_absorbed_.data() + (row * s_.n_heads + head) * row_dim + s_.kv_rank;
          for (std::uint32_t c = 0; c < s_.rope_dim; ++c) rope[c] = s_.scale * q[s_.nope_dim + c];
        }
      }
      scratch_.input_.set(scratch_.head_in_.data(), n_rows_, s_.nope_dim);
      linear(compute_, call_.heads.k_absorb[head], scratch_.input_,
             scratch_.q_absorbed_.span().subspan(head * row_dim), s_.n_heads * row_dim);
    }
    if (!call_.layout.v->rotates) return;
    compute_.pool.for_each(std::size_t{n_rows_} * s_.n_heads, [&](std::size_t i, unsigned) {
      compute_.simd.hadamard(scratch_.q_absorbed_.data() + i * row_dim, 1, s_.kv_rank);
    });
  }

  void plan(const Part& part) {
    for (std::uint32_t row = 0; row < part.n_rows; row += tile_rows_) {
      const std::uint32_t n = std::min(tile_rows_, part.n_rows - row);
      const std::uint32_t end = part.item->n_past() + part.first + row + n;
      for (std::uint32_t head = 0; head < s_.n_heads; head += group_) {
        const std::uint32_t n_heads = std::min(group_, s_.n_heads - head);
        for (std::uint32_t run = 0; run * kRunTokens < end; ++run) {
          if (n_tasks_ == std::min(scratch_.n_slots_, tasks_.size())) run_wave();
          tasks_[n_tasks_++] = {&part, row, n, head, n_heads, run};
        }
      }
    }
  }

  /// States of all tasks at hand side by side, then those of a tile merged in order of its runs.
  void run_wave() {
    compute_.pool.for_each(n_tasks_,
                           [&](std::size_t i, unsigned thread) { attend_run(i, thread); });
    std::array<std::size_t, kMaxTasks> begins{};  // of the tasks of one tile
    std::size_t n_tiles = 0;
    for (std::size_t i = 0; i < n_tasks_; ++i) {
      if (i == 0 || !same_tile(tasks_[i - 1], tasks_[i])) begins[n_tiles++] = i;
    }
    compute_.pool.for_each(n_tiles, [&](std::size_t tile, unsigned) {
      const std::size_t end = tile + 1 < n_tiles ? begins[tile + 1] : n_tasks_;
      for (std::size_t i = begins[tile]; i < end; ++i) merge(i);
    });
    n_tasks_ = 0;
  }

  static bool same_tile(const Task& a, const Task& b) {
    return a.part == b.part && a.first == b.first && a.first_head == b.first_head;
  }

  std::uint32_t position(const Task& task, std::uint32_t row) const {
    return task.part->item->n_past() + task.part->first + task.first + row;
  }
  /// Index of a query among the rows and heads at hand.
  std::size_t at(const Task& task, std::uint32_t row, std::uint32_t head) const {
    return (std::size_t{task.part->at} + task.first + row) * s_.n_heads + task.first_head + head;
  }

  /// Rows [begin, end) of a task that read the same bytes of a block.
  struct Piece {
    std::uint32_t begin, end;
    std::uint32_t n_tokens;  // of the block, that any of them sees
    LatentBlock block;
  };
  /// Rows whose own block this is, then those behind it: together where the layer does not seal.
  template <class F>
  void for_each_piece(const Task& task, std::uint32_t block, F&& f) const {
    const std::uint32_t n = s_.block_tokens, end = task.n_rows;
    std::uint32_t own = 0;
    while (own < end && position(task, own) / n < block) ++own;
    std::uint32_t behind = own;
    while (behind < end && position(task, behind) / n == block) ++behind;
    const AttentionItem& step = task.part->item->step;
    const auto call = [&](std::uint32_t first, std::uint32_t last, bool is_own) {
      if (first == last) return;
      const std::uint32_t n_seen = position(task, last - 1) + 1 - block * n;
      f(Piece{first, last, std::min(n, n_seen),
              latent_block(s_, call_.layout, step, block, is_own)});
    };
    if (!call_.layout.seals()) return call(own, end, true);
    call(own, behind, true);
    call(behind, end, false);
  }

  struct Queries {
    float *latent, *rope;  // [kLatentTile, kv_rank], [kLatentTile, rope_dim]
  };
  void gather(const Task& task, const Queries& q) const {
    for (std::uint32_t i = 0; i < task.n_rows * task.n_heads; ++i) {
      const std::size_t k = at(task, i / task.n_heads, i % task.n_heads);
      const float* from = scratch_.q_absorbed_.data() + k * s_.row_dim();
      std::copy_n(from, s_.kv_rank, q.latent + std::size_t{i} * s_.kv_rank);
      std::copy_n(from + s_.kv_rank, s_.rope_dim, q.rope + std::size_t{i} * s_.rope_dim);
    }
  }

  void attend_run(std::size_t number, unsigned thread) {
    const Task& task = tasks_[number];
    const std::size_t rank = s_.kv_rank, n = s_.block_tokens;
    float* const latent = scratch_.workspaces_.data() + thread * scratch_.thread_floats_;
    const Queries q{latent, latent + kLatentTile * rank};
    float* const scores = q.rope + kLatentTile * s_.rope_dim;
    const LatentBlockReader reader(compute_.simd, s_, call_.layout,
                                   scores + kLatentTile * kRunTokens);
    gather(task, q);
    const std::uint32_t n_all = rows_seen(task.run, position(task, task.n_rows - 1));
    const std::uint32_t first_block = task.run * (kRunTokens / s_.block_tokens);
    const std::uint32_t n_blocks = (n_all + s_.block_tokens - 1) / s_.block_tokens;
    const auto tile = [&](const Piece& piece, std::uint32_t b) -> simd::ScoreTile {
      const std::size_t first = std::size_t{piece.begin} * task.n_heads;
      return {scores + first * kRunTokens + b * n, (piece.end - piece.begin) * task.n_heads,
              kRunTokens};
    };
    for (std::uint32_t b = 0; b < n_blocks; ++b) {
      for_each_piece(task, first_block + b, [&](const Piece& piece) {
        const std::size_t first = std::size_t{piece.begin} * task.n_heads;
        reader.scores(q.latent + first * rank, q.rope + first * s_.rope_dim, piece.block,
                      tile(piece, b));
      });
    }
    const Slot slot = slot_of(number);
    weigh_all(task, scores, slot);
    std::fill_n(slot.out, task.n_rows * task.n_heads * rank, 0.0F);
    for (std::uint32_t b = 0; b < n_blocks; ++b) {
      for_each_piece(task, first_block + b, [&](const Piece& piece) {
        const std::size_t first = std::size_t{piece.begin} * task.n_heads;
        reader.accumulate(tile(piece, b), piece.block, piece.n_tokens, slot.out + first * rank);
      });
    }
  }

  struct Slot {
    float *max, *sum, *out;  // [kLatentTile], [kLatentTile], [kLatentTile, kv_rank]
  };
  void weigh_all(const Task& task, float* scores, const Slot& slot) const {
    const std::uint32_t n_all = rows_seen(task.run, position(task, task.n_rows - 1));
    for (std::uint32_t i = 0; i < task.n_rows * task.n_heads; ++i) {
      const std::uint32_t n_seen = rows_seen(task.run, position(task, i / task.n_heads));
      // A row may see nothing of a run that later rows of its tile see: the empty state.
      if (n_seen == 0) {
        std::fill_n(scores + i * kRunTokens, n_all, 0.0F);
        slot.sum[i] = 0;
        continue;
      }
      const Weighed state = weigh(compute_.simd, scores + i * kRunTokens, n_seen, n_all);
      slot.max[i] = state.max;
      slot.sum[i] = state.sum;
    }
  }
  Slot slot_of(std::size_t number) {
    float* memory = scratch_.slots_.data() + number * latent_slot_floats(s_);
    return {memory, memory + kLatentTile, memory + 2 * kLatentTile};
  }

  void merge(std::size_t number) {
    const Task& task = tasks_[number];
    const Slot slot = slot_of(number);
    for (std::uint32_t i = 0; i < task.n_rows * task.n_heads; ++i) {
      const std::size_t k = at(task, i / task.n_heads, i % task.n_heads);
      AttentionState state{scratch_.absorbed_max_[k], scratch_.absorbed_sum_[k],
                           scratch_.mixed_.data() + k * s_.kv_rank};
      merge_state(state, {slot.max[i], slot.sum[i], slot.out + std::size_t{i} * s_.kv_rank},
                  s_.kv_rank);
      scratch_.absorbed_max_[k] = state.max;
      scratch_.absorbed_sum_[k] = state.sum;
    }
  }

  /// out = v_up (weighted latents / sum).
  void leave_latent_space() {
    if (call_.layout.v->rotates) {
      compute_.pool.for_each(std::size_t{n_rows_} * s_.n_heads, [&](std::size_t i, unsigned) {
        compute_.simd.hadamard(scratch_.mixed_.data() + i * s_.kv_rank, 1, s_.kv_rank);
      });
    }
    for (std::uint32_t head = 0; head < s_.n_heads; ++head) {
      for (std::size_t row = 0; row < n_rows_; ++row) {
        const std::size_t k = row * s_.n_heads + head;
        const float factor = 1.0F / scratch_.absorbed_sum_[k];
        const float* from = scratch_.mixed_.data() + k * s_.kv_rank;
        float* to = scratch_.head_in_.data() + row * s_.kv_rank;
        for (std::uint32_t c = 0; c < s_.kv_rank; ++c) to[c] = factor * from[c];
      }
      scratch_.input_.set(scratch_.head_in_.data(), n_rows_, s_.kv_rank);
      linear(compute_, call_.heads.v_up[head], scratch_.input_, scratch_.head_out_.span(),
             s_.v_dim);
      for (std::size_t i = 0; i < n_parts_; ++i) {
        for (std::uint32_t r = 0; r < parts_[i].n_rows; ++r) {
          std::copy_n(scratch_.head_out_.data() + (parts_[i].at + r) * std::size_t{s_.v_dim},
                      s_.v_dim,
                      call_.out + (batch_row(parts_[i], r) * s_.n_heads + head) * s_.v_dim);
        }
      }
    }
  }

  static constexpr std::size_t kMaxTasks = 128;

  const Compute& compute_;
  const LatentCall& call_;
  const LatentShape& s_;
  LatentScratch& scratch_;
  const std::uint32_t group_;      // heads of a tile
  const std::uint32_t tile_rows_;  // rows of a tile
  std::array<Part, kAbsorbedRows> parts_{};
  std::size_t n_parts_ = 0;
  std::uint32_t n_rows_ = 0;  // at hand
  std::array<Task, kMaxTasks> tasks_{};
  std::size_t n_tasks_ = 0;
};

void attend_absorbed(const Compute& compute, const LatentCall& call, LatentScratch& scratch) {
  AbsorbedForm form(compute, call, scratch);
  for (const LatentItem& item : call.items) form.add(item);
  form.flush();
}

}  // namespace larder
