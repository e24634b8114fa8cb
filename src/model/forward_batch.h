// One ragged batch of sequences, as the forward pass takes it.
#pragma once

#include <cstdint>
#include <span>

#include "base/block_id.h"
#include "kernels/attention.h"
#include "kernels/block_choice.h"
#include "kernels/column_sums.h"

namespace larder {

/// Which of a sequence's new rows leave sums, of their attention or of their queries. Both are
/// [n_layers], used in layers without a window; a layer that owns no rows has those of its owner.
struct ObservedSequence {
  std::uint32_t sequence;        // of the batch
  std::uint32_t first, n_rows;   // of its new rows
  std::span<float* const> sums;  // [n_kv_heads, stride] each: kernels/column_sums.h; or empty
  std::size_t stride;
  std::span<float* const> queries;  // kernels/query_moments.h; or empty
  ObservedPlace place = {};         // of the first of them
  std::size_t far = 0;              // of `sums`: ObservedRows::far
  CreditRule credit = {};           // of `sums`
};

/// The new tokens of one sequence and where its cached rows lie.
struct SequenceRows {
  std::uint32_t first_row;        // its first row of the batch
  std::uint32_t n_rows;           // new tokens: 1 when decoding, a chunk when prefilling
  std::uint32_t n_past;           // tokens before them; the first new one has this position
  std::span<const KvRows> heads;  // [n_layers, n_kv_heads]; room for the new rows included. A layer
                                  // that owns no rows has those of its owner
  std::span<const std::uint32_t> n_stored;  // [n_layers] of the tokens before, what the layer's
                                            // blocks hold: fewer where rows were dropped
  std::uint32_t n_sinks = 0;   // first stored rows, which queries meet at their distance in the
                               // cache (StreamingLLM); at most kMaxSinkRows
  std::uint32_t sink_cap = 0;  // or, not 0, at their distance in the text and no more than this
                               // (LM-Infinite), behind the place where rows were dropped first
  std::uint32_t n_plain = 0;   // of its rows, the first ones, take the plain form of latent
                               // attention (model/latent_forms.h); with ForwardLimits::reading they
                               // need not choose each for itself (kernels/block_choice.h)
};

struct ForwardBatch {
  std::span<const TokenId> tokens;          // [n_rows]
  std::span<const SequenceRows> sequences;  // in row order, together all rows
  std::span<const ObservedSequence> observed = {};
};

struct ForwardLimits {
  std::uint32_t max_rows;           // of one batch
  std::uint32_t max_sequences;      // of one batch
  std::uint32_t max_context;        // tokens of a sequence
  std::uint32_t max_logit_rows;     // of one `logits` call
  bool has_sinks = false;           // SequenceRows::n_sinks is used,
  std::uint32_t n_capped = 0;       // with SequenceRows::sink_cap: so many sinks
  bool sums_attention = false;      // ObservedSequence::sums is used
  BlockRule reading = {};           // of blocks; not in layers with a window, nor
  std::uint32_t n_full_layers = 0;  // in so many first ones
  std::uint32_t n_reread = 0;       // rows behind `max_context` that a sequence has for a time
};

}  // namespace larder
