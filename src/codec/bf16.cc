#include "codec/bf16.h"

#include "codec/row_layout.h"
#include "tensor/half.h"

namespace larder {
namespace {

struct Bf16 {
  using Stored = std::uint16_t;
  static Stored from_f32(float value) { return f32_to_bf16(value); }
  static float to_f32(Stored stored) { return bf16_to_f32(stored); }
};
using Rows = RowAccess<Bf16, PairLayout>;

constexpr KvCodec kCodec = {
    .format = KvFormat::bf16,
    .raw = KvFormat::bf16,
    .name = "bf16",
    .k_bytes = Rows::n_bytes,
    .v_bytes = Rows::n_bytes,
    .append_k = Rows::append_k,
    .append_v = Rows::append_v,
    .read_k = Rows::read_k,
    .read_v = Rows::read_v,
    .scores = [](const simd::Table& table) { return table.scores_bf16; },
    .accumulate = [](const simd::Table& table) { return table.accumulate_bf16; },
    .row_scores = [](const simd::Table& table) { return table.row_scores_bf16; },
    .run_scores = [](const simd::Table& table) { return table.run_scores_bf16; },
    .run_accumulate = [](const simd::Table& table) { return table.run_accumulate_bf16; },
};

}  // namespace

const KvCodec& bf16_codec() noexcept { return kCodec; }

}  // namespace larder
