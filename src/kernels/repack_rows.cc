#include "kernels/repack_rows.h"

#include <cstddef>
#include <cstring>
#include <optional>

#include "base/check.h"
#include "tensor/buffer.h"

namespace larder {
namespace {

/// The open blocks of all heads as they would be sealed, were the rest of their rows zeros.
class SealedOpenBlocks {
 public:
  SealedOpenBlocks(const Compute& compute, const KvLayout& layout, BlockShape shape,
                   std::span<const BlockId> open, std::uint32_t n_open)
      : layout_(layout), head_bytes_(layout.open_bytes + kv_block_bytes(layout, shape)) {
    const auto n_heads = static_cast<std::uint32_t>(open.size());
    bytes_ = Buffer<std::byte>(n_heads * head_bytes_);
    layout_.pool = bytes_.data();
    layout_.raw_blocks = 0;
    std::vector<BlockId> sealed;
    for (std::size_t h = 0; h < n_heads; ++h) sealed.push_back(id_of(part(h)));
    std::vector<KvRows> heads;
    for (std::size_t h = 0; h < n_heads; ++h) {
      std::byte* copy = bytes_.data() + h * head_bytes_;
      std::memcpy(copy, layout.pool + to_offset(open[h]), layout.open_bytes);
      heads.push_back({std::span(sealed).subspan(h, 1), 0, id_of(copy)});
    }
    const std::uint32_t n_missing = shape.block_tokens - n_open;
    const std::size_t width = std::size_t{n_heads} * shape.head_dim;
    const std::vector<float> zeros(n_missing * width);
    const AttentionItem item{0, n_missing, n_open, heads};
    append_rows(compute, n_heads, shape, layout_, std::span(&item, 1),
                {zeros.data(), zeros.data(), width, width});
  }
  const std::byte* part(std::size_t head) const {
    return bytes_.data() + head * head_bytes_ + layout_.open_bytes;
  }

 private:
  BlockId id_of(const std::byte* at) const {
    const auto offset = static_cast<std::size_t>(at - bytes_.data());
    return BlockId{static_cast<std::uint32_t>(offset / kBlockQuantum)};
  }
  KvLayout layout_;
  std::size_t head_bytes_;
  Buffer<std::byte> bytes_;
};

struct Place {
  std::byte* part;
  std::uint32_t row;
};

void move_k(const KvCodec& codec, const std::byte* from, std::uint32_t from_row, BlockShape shape,
            Place to) {
  if (!codec.is_raw()) return codec.move_k(from, from_row, shape, to.part, to.row);
  std::vector<float> row(shape.head_dim);
  codec.read_k(from, from_row, shape, row.data());
  codec.append_k(row.data(), to.row, shape, to.part);
}

void move_v(const KvCodec& codec, const std::byte* from, std::uint32_t from_row, BlockShape shape,
            Place to) {
  if (!codec.is_raw()) return codec.move_v(from, from_row, shape, to.part, to.row);
  std::vector<float> row(shape.head_dim);
  codec.read_v(from, from_row, shape, row.data());
  codec.append_v(row.data(), to.row, shape, to.part);
}

}  // namespace

bool moves_sealed_rows(const KvLayout& layout) noexcept {
  return (layout.k->is_raw() || layout.k->move_k != nullptr) &&
         (layout.v->is_raw() || layout.v->move_v != nullptr);
}

void repack_rows(const Compute& compute, const KvLayout& layout, BlockShape shape,
                 std::span<const std::vector<RowMove>> moves, std::span<const BlockId> open,
                 std::uint32_t n_open) {
  LARDER_CHECK(layout.seals() && moves_sealed_rows(layout));
  LARDER_CHECK(n_open < shape.block_tokens && (n_open == 0 || open.size() == moves.size()));
  std::optional<SealedOpenBlocks> sealed;
  if (n_open != 0) sealed.emplace(compute, layout, shape, open, n_open);
  compute.pool.for_each(moves.size(), [&](std::size_t head, unsigned) {
    for (const RowMove& move : moves[head]) {
      const bool is_open = n_open != 0 && move.from == open[head];
      const std::byte* from = is_open ? sealed->part(head) : layout.pool + to_offset(move.from);
      std::byte* to = layout.pool + to_offset(move.to);
      move_k(*layout.k, from, move.from_row, shape, {to, move.to_row});
      move_v(*layout.v, from + layout.v_offset, move.from_row, shape,
             {to + layout.v_offset, move.to_row});
    }
  });
}

}  // namespace larder
