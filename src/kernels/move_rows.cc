#include "kernels/move_rows.h"

#include <algorithm>
#include <cstddef>

namespace larder {

void move_rows(const Compute& compute, const KvLayout& layout, const KvShape& shape,
               std::span<const std::vector<RowMove>> moves) {
  compute.pool.for_each(moves.size(), [&](std::size_t head, unsigned) {
    std::vector<float> row(std::max(shape.k.head_dim, shape.v.head_dim));
    for (const RowMove& move : moves[head]) {
      const std::byte* from = layout.pool + to_offset(move.from);
      std::byte* to = layout.pool + to_offset(move.to);
      layout.k->read_k(from, move.from_row, shape.k, row.data());
      layout.k->append_k(row.data(), move.to_row, shape.k, to);
      layout.v->read_v(from + layout.v_offset, move.from_row, shape.v, row.data());
      layout.v->append_v(row.data(), move.to_row, shape.v, to + layout.v_offset);
    }
  });
}

}  // namespace larder
