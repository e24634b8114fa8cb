#include "kernels/kv_layout.h"

#include <algorithm>

#include "kernels/attention.h"

namespace larder {
namespace {

constexpr std::size_t round_up(std::size_t n) {
  return (n + kBlockQuantum - 1) / kBlockQuantum * kBlockQuantum;
}

std::uint32_t last_block(const AttentionItem& item, std::uint32_t block_tokens) {
  return (item.n_past + item.n_rows - 1) / block_tokens;
}

}  // namespace

KvLayout make_kv_layout(const KvCodec& k, const KvCodec& v, const KvShape& shape,
                        BlockMarks marks) noexcept {
  KvLayout layout;
  layout.k = &k;
  layout.v = &v;
  layout.v_offset = round_up(k.k_bytes(shape.k));
  layout.marks = marks;
  if (marks != BlockMarks::none)
    layout.marks_offset = layout.v_offset + round_up(v.v_bytes(shape.v));
  if (k.is_raw() && v.is_raw()) return layout;
  layout.open_k = &kv_codec(k.raw);
  layout.open_v = &kv_codec(v.raw);
  layout.open_v_offset = round_up(layout.open_k->k_bytes(shape.k));
  layout.open_bytes = layout.open_v_offset + round_up(layout.open_v->v_bytes(shape.v));
  return layout;
}

std::size_t kv_block_bytes(const KvLayout& layout, const KvShape& shape) noexcept {
  if (layout.marks != BlockMarks::none) {
    return layout.marks_offset + round_up(block_marks_bytes(shape.k.head_dim));
  }
  return layout.v_offset + round_up(layout.v->v_bytes(shape.v));
}

std::uint32_t n_fresh_blocks(const AttentionItem& item, std::uint32_t block_tokens) noexcept {
  return last_block(item, block_tokens) - item.n_past / block_tokens;
}

// An item of n rows, 2 or more, enters at most (n - 2) / block_tokens + 2 blocks.
std::size_t max_fresh_blocks(std::uint32_t max_rows, std::uint32_t max_sequences,
                             std::uint32_t block_tokens) noexcept {
  return std::size_t{max_rows} / block_tokens + std::min(max_sequences, max_rows / 2);
}

std::byte* open_block(const KvLayout& layout, const AttentionItem& item,
                      const OpenBlockOf& of) noexcept {
  if (!item.ends_in_fresh && of.block == last_block(item, of.block_tokens)) {
    return layout.pool + to_offset(item.heads[of.kv_head].open);
  }
  const std::size_t slot = item.fresh_slot + of.block - item.n_past / of.block_tokens;
  return layout.fresh + (slot * of.n_kv_heads + of.kv_head) * layout.open_bytes;
}

}  // namespace larder
