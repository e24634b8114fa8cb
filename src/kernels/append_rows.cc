// Rows of a step go into the open blocks; full ones are sealed.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/attention.h"
#include "kernels/key_bounds.h"
#include "kernels/turned_keys.h"

namespace larder {
namespace {

// One item's rows of one KV head.
struct Append {
  const Compute& compute;
  const std::uint32_t n_kv_heads;
  const KvShape& shape;
  const KvLayout& layout;
  const AttentionItem& item;
  std::uint32_t head;
  const NewRows& rows;

  std::uint32_t block_tokens() const { return shape.v.block_tokens; }
  std::byte* table_block(std::uint32_t block) const {
    const KvRows& cached = item.heads[head];
    const std::size_t index = block - cached.first_block;
    LARDER_DCHECK(index < cached.blocks.size());
    return layout.pool + to_offset(cached.blocks[index]);
  }
  std::byte* open(std::uint32_t block) const {
    return open_block(layout, item, {head, n_kv_heads, block, block_tokens()});
  }

  void write_rows() const {
    const bool seals = layout.seals();
    const KvCodec& to_k = seals ? *layout.open_k : *layout.k;
    const KvCodec& to_v = seals ? *layout.open_v : *layout.v;
    const std::size_t v_offset = seals ? layout.open_v_offset : layout.v_offset;
    for (std::uint32_t r = 0; r < item.n_rows; ++r) {
      const std::uint32_t position = n_past_of(item, head) + r, index = position / block_tokens();
      std::byte* block = seals ? open(index) : table_block(index);
      const std::size_t from = std::size_t{item.first_row} + r;
      const float* k = rows.k + from * rows.k_stride + std::size_t{head} * shape.k.head_dim;
      const float* v = rows.v + from * rows.v_stride + std::size_t{head} * shape.v.head_dim;
      const std::uint32_t row = position % block_tokens();
      to_k.append_k(k, row, shape.k, block);
      to_v.append_v(v, row, shape.v, block + v_offset);
    }
  }

  // The rows of earlier steps: their open block will be another's when this step ends.
  void move_open_block() const {
    const std::uint32_t first = item.n_past / block_tokens();
    if (item.n_past % block_tokens() == 0 || n_fresh_blocks(item, block_tokens()) == 0) {
      return;
    }
    std::memcpy(open(first), layout.pool + to_offset(item.heads[head].open), layout.open_bytes);
  }

  // Of the rows as they are before they are sealed.
  void bound(const KvCodec& codec, const std::byte* k, std::uint32_t block) const {
    if (layout.marks != BlockMarks::bounds) return;
    write_key_bounds(codec, k, shape.k, table_block(block) + layout.marks_offset);
  }

  void seal(std::uint32_t block) const {
    const std::byte* raw_k = open(block);
    const std::byte* raw_v = raw_k + layout.open_v_offset;
    std::byte* k_part = table_block(block);
    if (layout.is_raw(block)) {
      std::memcpy(k_part, raw_k, layout.open_bytes);
      return;
    }
    bound(*layout.open_k, raw_k, block);
    std::byte* v_part = k_part + layout.v_offset;
    if (layout.k->codes != nullptr) {
      compute.simd.encode_codes_k(*layout.k->codes, raw_k, shape.k, k_part);
    } else if (layout.k->before_rope != nullptr) {
      encode_keys(compute.simd, key_coding(layout, shape.k.head_dim, {head, block}), raw_k, shape.k,
                  k_part);
    } else if (layout.k->encode_k != nullptr) {
      layout.k->encode_k(compute.simd)(raw_k, shape.k, k_part);
    } else {
      std::memcpy(k_part, raw_k, layout.k->k_bytes(shape.k));
    }
    if (layout.v->codes != nullptr) {
      compute.simd.encode_codes_v(*layout.v->codes, raw_v, shape.v, v_part);
    } else if (layout.v->encode_v != nullptr) {
      layout.v->encode_v(compute.simd)(raw_v, shape.v, v_part);
    } else {
      std::memcpy(v_part, raw_v, layout.v->v_bytes(shape.v));
    }
  }

  void run() const {
    if (layout.seals()) move_open_block();
    write_rows();
    const std::uint32_t n_past = n_past_of(item, head);
    const std::uint32_t end = (n_past + item.n_rows) / block_tokens();
    for (std::uint32_t b = n_past / block_tokens(); b < end; ++b) {
      layout.seals() ? seal(b) : bound(*layout.k, table_block(b), b);
    }
  }
};

}  // namespace

void append_rows(const Compute& compute, std::uint32_t n_kv_heads, const KvShape& shape,
                 const KvLayout& layout, std::span<const AttentionItem> items,
                 const NewRows& rows) {
  compute.pool.for_each(items.size() * n_kv_heads, [&](std::size_t task, unsigned) {
    const auto head = static_cast<std::uint32_t>(task % n_kv_heads);
    Append{compute, n_kv_heads, shape, layout, items[task / n_kv_heads], head, rows}.run();
  });
}

void append_rows(const Compute& compute, const AttentionShape& shape, const KvLayout& layout,
                 std::span<const AttentionItem> items, const float* k, const float* v) {
  const BlockShape part{shape.block_tokens, shape.head_dim};
  const std::size_t width = std::size_t{shape.n_kv_heads} * shape.head_dim;
  append_rows(compute, shape.n_kv_heads, part, layout, items, {k, v, width, width});
}

}  // namespace larder
