#include <algorithm>

#include "kernels/latent_blocks.h"
#include "kernels/mla_attention.h"
#include "kernels/mla_tile.h"

namespace larder {

struct LatentScratch::Sizes {
  std::size_t rows, run, thread, absorbed, head, slots;

  Sizes(const LatentShape& s, unsigned n_threads, std::uint32_t max_rows)
      : rows(std::size_t{max_rows} * s.n_heads),
        run(kRunTokens),
        thread(std::max(kTile * (s.key_dim() + kRunTokens + s.v_dim),
                        kTile * (s.row_dim() + kRunTokens)) +
               LatentBlockReader::n_floats(s)),
        absorbed(std::size_t{kAbsorbedRows} * s.n_heads),
        head(kAbsorbedRows * std::max({s.nope_dim, s.kv_rank, s.v_dim})),
        slots(kSlotsPerThread * n_threads) {}
  static constexpr std::size_t kTile = kLatentTile;
  static constexpr std::size_t kSlotsPerThread = 8;
};

LatentScratch::LatentScratch(const LatentShape& s, unsigned n_threads, std::uint32_t max_rows) {
  const Sizes n(s, n_threads, max_rows);
  max_ = Buffer<float>(n.rows);
  sum_ = Buffer<float>(n.rows);
  latents_ = Buffer<float>(n.run * s.kv_rank);
  ropes_ = Buffer<float>(n.run * s.rope_dim);
  keys_ = Buffer<float>(n.run * s.nope_dim);
  tiles_ = Buffer<float>(n.run * s.key_dim());
  values_ = Buffer<float>(n.run * s.v_dim);
  thread_floats_ = (n.thread + 15) / 16 * 16;
  workspaces_ = Buffer<float>(n_threads * thread_floats_);
  q_absorbed_ = Buffer<float>(n.absorbed * s.row_dim());
  mixed_ = Buffer<float>(n.absorbed * s.kv_rank);
  head_in_ = Buffer<float>(n.head);
  head_out_ = Buffer<float>(n.head);
  absorbed_max_ = Buffer<float>(n.absorbed);
  absorbed_sum_ = Buffer<float>(n.absorbed);
  n_slots_ = n.slots;
  slots_ = Buffer<float>(n.slots * latent_slot_floats(s));
  input_ = LinearInput(n.run, std::max(s.kv_rank, s.nope_dim));
}

std::size_t LatentScratch::n_bytes(const LatentShape& s, unsigned n_threads,
                                   std::uint32_t max_rows) {
  const Sizes n(s, n_threads, max_rows);
  const std::size_t floats =
      2 * n.rows + n.run * (s.kv_rank + s.rope_dim + s.nope_dim + s.key_dim() + s.v_dim) +
      n_threads * (n.thread + 16) + n.absorbed * (s.row_dim() + s.kv_rank + 2) + 2 * n.head +
      n.slots * latent_slot_floats(s);
  // Int8 copies of an input with their scales and sums: 1 + 1/8 + 1/4 bytes an element.
  return floats * sizeof(float) + n.run * std::max(s.kv_rank, s.nope_dim) / 8 * 11;
}

}  // namespace larder
