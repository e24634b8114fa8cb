#include "codec/f16.h"

#include "codec/row_layout.h"
#include "tensor/half.h"

namespace larder {
namespace {

struct F16 {
  using Stored = std::uint16_t;
  static Stored from_f32(float value) { return f32_to_f16(value); }
  static float to_f32(Stored stored) { return f16_to_f32(stored); }
};
using Rows = RowAccess<F16, PlainLayout>;

constexpr KvCodec kCodec = {
    .format = KvFormat::f16,
    .raw = KvFormat::f16,
    .name = "f16",
    .k_bytes = Rows::n_bytes,
    .v_bytes = Rows::n_bytes,
    .append_k = Rows::append_k,
    .append_v = Rows::append_v,
    .read_k = Rows::read_k,
    .read_v = Rows::read_v,
    .scores = [](const simd::Table& table) { return table.scores_f16; },
    .accumulate = [](const simd::Table& table) { return table.accumulate_f16; },
    .row_scores = [](const simd::Table& table) { return table.row_scores_f16; },
    .run_scores = [](const simd::Table& table) { return table.run_scores_f16; },
    .run_accumulate = [](const simd::Table& table) { return table.run_accumulate_f16; },
};

}  // namespace

const KvCodec& f16_codec() noexcept { return kCodec; }

}  // namespace larder
