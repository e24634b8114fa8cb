// Where K and V of a layer stand in memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/block_id.h"
#include "codec/kv_codec.h"

namespace larder {

struct AttentionItem;
struct KeyTable;
class BlockAngles;

/// The K and the V part of a block: as many rows, perhaps of other widths (latent attention).
struct KvShape {
  BlockShape k, v;

  KvShape(BlockShape of_k, BlockShape of_v) noexcept : k(of_k), v(of_v) {}
  KvShape(BlockShape of_both) noexcept : k(of_both), v(of_both) {}  // implicit: most are alike
};

/// What a full block holds beside its rows, for queries that do not read all blocks. Either takes
/// two numbers of bf16 for each channel of K.
enum class BlockMarks : std::uint8_t {
  none,
  bounds,   // of its keys: kernels/key_bounds.h
  samples,  // of keys and queries: kernels/key_samples.h
};
constexpr std::size_t block_marks_bytes(std::size_t head_dim) { return 4 * head_dim; }

/// How the bytes of the blocks of a layer are read; the same for all of them.
///
/// A layer *seals* when K or V has a sealed format. Then the rows of a sequence's last block, while
/// it is not full, are in an open block beside the table of sealed ones. A query sees the rows of
/// its own block as the open formats have them, those of earlier blocks as they were sealed. When a
/// step's rows run over the end of a block, queries still need the rows of blocks that are sealed
/// by then: these stand in *fresh* blocks, memory of the forward pass, which each layer uses anew.
struct KvLayout {
  std::byte* pool = nullptr;  // block id b begins at pool + to_offset(b)
  const KvCodec* k = nullptr;
  const KvCodec* v = nullptr;
  std::size_t v_offset = 0;  // the K part comes first, the V part at this offset
  // Of layers that seal:
  const KvCodec* open_k = nullptr;
  const KvCodec* open_v = nullptr;
  std::size_t open_v_offset = 0;
  std::size_t open_bytes = 0;    // of an open block, and of a fresh one
  std::byte* fresh = nullptr;    // [slots, n_kv_heads, open_bytes]
  std::uint32_t raw_blocks = 0;  // the first ones of a sequence are as open ones, also when full
  /// What queries choose blocks by, behind the parts of those that are full and not as open ones.
  BlockMarks marks = BlockMarks::none;
  std::size_t marks_offset = 0;
  // Where k->before_rope: what is known of the layer's keys, and rope (kernels/turned_keys.h).
  const KeyTable* key_table = nullptr;
  const BlockAngles* angles = nullptr;

  bool seals() const noexcept { return open_k != nullptr; }
  bool is_raw(std::uint32_t block) const noexcept { return !seals() || block < raw_blocks; }
};

/// The layout of blocks whose parts begin at multiples of kBlockQuantum; `pool` and `fresh` are the
/// caller's to set.
KvLayout make_kv_layout(const KvCodec& k, const KvCodec& v, const KvShape& shape,
                        BlockMarks marks = BlockMarks::none) noexcept;
/// Bytes of a (sealed) block of the layout: a multiple of kBlockQuantum.
std::size_t kv_block_bytes(const KvLayout& layout, const KvShape& shape) noexcept;

/// Fresh blocks that an item needs per KV head: those that its rows enter but do not end in.
std::uint32_t n_fresh_blocks(const AttentionItem& item, std::uint32_t block_tokens) noexcept;
/// The same at most for all items of a step.
std::size_t max_fresh_blocks(std::uint32_t max_rows, std::uint32_t max_sequences,
                             std::uint32_t block_tokens) noexcept;

struct OpenBlockOf {  // a block that the step's rows of an item enter, by its index in the sequence
  std::uint32_t kv_head, n_kv_heads;
  std::uint32_t block, block_tokens;
};
/// Where the rows of such a block stand raw while its layer is at work. REQUIRES: layout.seals()
std::byte* open_block(const KvLayout& layout, const AttentionItem& item,
                      const OpenBlockOf& of) noexcept;

}  // namespace larder
