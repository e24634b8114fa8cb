#include "kernels/move_rows.h"

#include <cstddef>

namespace larder {

void move_rows(const Compute& compute, const KvLayout& layout, BlockShape shape,
               std::span<const std::vector<RowMove>> moves) {
  compute.pool.for_each(moves.size(), [&](std::size_t head, unsigned) {
    std::vector<float> row(shape.head_dim);
    for (const RowMove& move : moves[head]) {
      const std::byte* from = layout.pool + to_offset(move.from);
      std::byte* to = layout.pool + to_offset(move.to);
      layout.k->read_k(from, move.from_row, shape, row.data());
      layout.k->append_k(row.data(), move.to_row, shape, to);
      layout.v->read_v(from + layout.v_offset, move.from_row, shape, row.data());
      layout.v->append_v(row.data(), move.to_row, shape, to + layout.v_offset);
    }
  });
}

}  // namespace larder
