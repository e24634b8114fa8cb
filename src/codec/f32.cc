#include "codec/f32.h"

#include "codec/row_layout.h"

namespace larder {
namespace {

struct F32 {
  using Stored = float;
  static Stored from_f32(float value) { return value; }
  static float to_f32(Stored stored) { return stored; }
};
using Rows = RowAccess<F32, PlainLayout>;

constexpr KvCodec kCodec = {
    .format = KvFormat::f32,
    .raw = KvFormat::f32,
    .name = "f32",
    .k_bytes = Rows::n_bytes,
    .v_bytes = Rows::n_bytes,
    .append_k = Rows::append_k,
    .append_v = Rows::append_v,
    .read_k = Rows::read_k,
    .read_v = Rows::read_v,
    .scores = [](const simd::Table& table) { return table.scores_f32; },
    .accumulate = [](const simd::Table& table) { return table.accumulate_f32; },
    .row_scores = [](const simd::Table& table) { return table.row_scores_f32; },
    .run_scores = [](const simd::Table& table) { return table.run_scores_f32; },
    .run_accumulate = [](const simd::Table& table) { return table.run_accumulate_f32; },
};

}  // namespace

const KvCodec& f32_codec() noexcept { return kCodec; }

}  // namespace larder
