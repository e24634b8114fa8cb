// One ragged batch of sequences, as the forward pass takes it.
#pragma once

#include <cstdint>
#include <span>

#include "base/block_id.h"
#include "kernels/attention.h"

namespace larder {

/// The new tokens of one sequence and where its cached rows lie.
struct SequenceRows {
  std::uint32_t first_row;        // its first row of the batch
  std::uint32_t n_rows;           // new tokens: 1 when decoding, a chunk when prefilling
  std::uint32_t n_past;           // tokens before them; the first new one has this position
  std::span<const KvRows> heads;  // [n_layers, n_kv_heads]; room for the new rows included. A layer
                                  // that owns no rows has those of its owner
  std::uint32_t n_plain = 0;      // of its rows, the first ones, take the plain form of latent
                                  // attention (model/latent_forms.h)
};

struct ForwardBatch {
  std::span<const TokenId> tokens;          // [n_rows]
  std::span<const SequenceRows> sequences;  // in row order, together all rows
};

struct ForwardLimits {
  std::uint32_t max_rows;        // of one batch
  std::uint32_t max_sequences;   // of one batch
  std::uint32_t max_context;     // tokens of a sequence
  std::uint32_t max_logit_rows;  // of one `logits` call
};

}  // namespace larder
