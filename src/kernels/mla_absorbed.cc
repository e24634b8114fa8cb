#include <algorithm>
#include <array>

#include "base/check.h"
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
        scores_(call.layout.v->row_scores(compute.simd)),
        accumulate_(call.layout.v->accumulate(compute.simd)),
        group_(std::min(s_.n_heads, kLatentTile)),
        tile_rows_(std::max(1U, kLatentTile / s_.n_heads)) {}

  /// Rows [first, first + n) of an item are rows [n_rows_, ...) of the piece at hand.
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
    std::uint32_t at;             // the first one's place in the piece
  };
  struct Task {  // a tile of queries over one run; its states go to the slot of the same number
    const Part* part;
    std::uint32_t first, n_rows;  // of the part
    std::uint32_t first_head, n_heads;
    std::uint32_t run;
  };

  std::size_t batch_row(const Part& part, std::uint32_t row) const {
    return std::size_t{part.item->first_row} + part.first + row;
  }

  /// q_absorbed_ = scale * (k_absorb q_nope, q_rope).
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
  }

  void plan(const Part& part) {
    for (std::uint32_t row = 0; row < part.n_rows; row += tile_rows_) {
      const std::uint32_t n = std::min(tile_rows_, part.n_rows - row);
      const std::uint32_t end = part.item->n_past + part.first + row + n;
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

  const std::byte* block(const Task& task, std::uint32_t index) const {
    const KvRows& cached = task.part->item->cached;
    LARDER_DCHECK(index - cached.first_block < cached.blocks.size());
    return call_.layout.pool + to_offset(cached.blocks[index - cached.first_block]);
  }
  std::uint32_t position(const Task& task, std::uint32_t row) const {
    return task.part->item->n_past + task.part->first + task.first + row;
  }
  /// Index of a query among the rows and heads of the piece.
  std::size_t at(const Task& task, std::uint32_t row, std::uint32_t head) const {
    return (std::size_t{task.part->at} + task.first + row) * s_.n_heads + task.first_head + head;
  }

  void attend_run(std::size_t number, unsigned thread) {
    const Task& task = tasks_[number];
    const std::uint32_t n_q = task.n_rows * task.n_heads;
    const std::size_t row_dim = s_.row_dim();
    float* q = scratch_.workspaces_.data() + thread * scratch_.thread_floats_;
    float* scores = q + kLatentTile * row_dim;
    for (std::uint32_t r = 0; r < task.n_rows; ++r) {
      std::copy_n(scratch_.q_absorbed_.data() + at(task, r, 0) * row_dim, task.n_heads * row_dim,
                  q + r * task.n_heads * row_dim);
    }
    const BlockShape block_shape{s_.block_tokens, s_.row_dim()};
    const std::uint32_t n_all = rows_seen(task.run, position(task, task.n_rows - 1));
    const std::uint32_t first_block = task.run * (kRunTokens / s_.block_tokens);
    const std::uint32_t n_blocks = (n_all + s_.block_tokens - 1) / s_.block_tokens;
    for (std::uint32_t b = 0; b < n_blocks; ++b) {
      // Then the same blocks again, from the first.
      const std::byte* next = block(task, first_block + (b + 1 < n_blocks ? b + 1 : 0));
      scores_(q, {block(task, first_block + b), next}, block_shape,
              {scores + b * s_.block_tokens, n_q, kRunTokens});
    }
    Slot slot = slot_of(number);
    for (std::uint32_t i = 0; i < n_q; ++i) {
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
    std::fill_n(slot.out, n_q * row_dim, 0.0F);
    for (std::uint32_t b = 0; b < n_blocks; ++b) {
      const std::byte* next = b + 1 < n_blocks ? block(task, first_block + b + 1) : nullptr;
      accumulate_({scores + b * s_.block_tokens, n_q, kRunTokens},
                  {block(task, first_block + b), next}, block_shape,
                  std::min(s_.block_tokens, n_all - b * s_.block_tokens), slot.out);
    }
  }

  struct Slot {
    float *max, *sum, *out;  // [kLatentTile], [kLatentTile], [kLatentTile, row_dim]
  };
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
                           scratch_.mixed_.data() + k * s_.row_dim()};
      merge_state(state, {slot.max[i], slot.sum[i], slot.out + std::size_t{i} * s_.row_dim()},
                  s_.kv_rank);
      scratch_.absorbed_max_[k] = state.max;
      scratch_.absorbed_sum_[k] = state.sum;
    }
  }

  /// out = v_up (weighted latents / sum). The rope channels were weighted too; nobody reads them.
  void leave_latent_space() {
    for (std::uint32_t head = 0; head < s_.n_heads; ++head) {
      for (std::size_t row = 0; row < n_rows_; ++row) {
        const std::size_t k = row * s_.n_heads + head;
        const float factor = 1.0F / scratch_.absorbed_sum_[k];
        const float* from = scratch_.mixed_.data() + k * s_.row_dim();
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
  const simd::RowScoresFn scores_;
  const simd::AccumulateFn accumulate_;
  const std::uint32_t group_;      // heads of a tile
  const std::uint32_t tile_rows_;  // rows of a tile
  std::array<Part, kAbsorbedRows> parts_{};
  std::size_t n_parts_ = 0;
  std::uint32_t n_rows_ = 0;  // of the piece at hand
  std::array<Task, kMaxTasks> tasks_{};
  std::size_t n_tasks_ = 0;
};

void attend_absorbed(const Compute& compute, const LatentCall& call, LatentScratch& scratch) {
  AbsorbedForm form(compute, call, scratch);
  for (const LatentItem& item : call.items) form.add(item);
  form.flush();
}

}  // namespace larder
