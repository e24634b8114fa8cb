// Rows multiplied by a Hadamard matrix (QuaRot, arXiv:2404.00456), which spreads outlier channels,
// so that plain tables fit every row. rot2 to rot5: the Lloyd-Max table of N(0, 1) with 2 to 5
// bits, rounded to integers of a unit, and a scale that keeps the row's length (TurboQuant,
// arXiv:2504.19874, without its residual bit). rot8: int8. All have one f16 scale per token and
// head: 16 / head_dim bits per element more.
#pragma once

#include "codec/kv_codec.h"

namespace larder {

const KvCodec& rot8_codec() noexcept;
const KvCodec& rot5_codec() noexcept;
const KvCodec& rot4_codec() noexcept;
const KvCodec& rot3_codec() noexcept;
const KvCodec& rot2_codec() noexcept;

}  // namespace larder
