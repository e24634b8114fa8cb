// How much attention cached rows get.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/attention.h"
#include "tensor/buffer.h"

namespace larder {

/// What a query adds to the sum of a row that it sees, beside n - 1 others, with the weight p.
enum class Credit : std::uint8_t {
  weight,       // p
  unimportant,  // -1 where p < 1 / n. Scissorhands, Liu et al. 2023 (arXiv:2305.17118)
  noisy,        // the softmax of (score + Gumbel noise) / tau, where tau is 1 up to the end of the
                // prompt and rises by 0.01 a token, to 2. Keyformer, Adnan et al. 2024
                // (arXiv:2403.09054)
  largest,      // nothing: the sum becomes p where that is more. KVzip, Kim et al. 2025
                // (arXiv:2505.23416)
};

struct CreditRule {
  Credit credit = Credit::weight;
  float rise = 0;          // the last query before rows are dropped counts 1 + rise, the first of
                           // those that do counts 1, and in between linearly
  std::uint32_t seed = 0;  // of the noise
};

/// Where the queries of an observed item stand, for rules that ask.
struct ObservedPlace {
  std::uint32_t position = 0;    // in the text, of the first query
  std::uint32_t prompt_end = 0;  // tokens of the prompt
  std::uint32_t index = 0;  // of the first query among those that count before rows are dropped
  std::uint32_t n_counting = 0;  // of these; 0: no fixed number
  std::uint32_t n_near = 0;      // rows, its own the last, that are near a query: ObservedRows::far
};

/// Queries of one item whose attention counts.
struct ObservedRows {
  std::uint32_t item;           // of the step
  std::uint32_t first, n_rows;  // rows within the item
  float* sums;                  // of KV head h and stored row j: sums[h * stride + j]
  std::size_t stride;           // at least the rows that the last of these queries sees
  ObservedPlace place = {};
  /// Not 0: what counts of queries that a row is not near to is also added to sums[h * stride + far
  /// + j]. With Credit::weight.
  std::size_t far = 0;
  CreditRule rule = {};
};

struct Observation;

/// Memory that `add_column_sums` works in.
class ColumnScratch {
 public:
  ColumnScratch() = default;
  /// For items that see at most `max_rows` rows; 48 bytes per thread and row, and with `seals`, for
  /// layers whose rows are decoded, 2 1/8 more for each channel.
  ColumnScratch(unsigned n_threads, std::uint32_t max_rows, std::uint32_t head_dim,
                bool seals = false);

 private:
  friend void add_column_sums(const Compute&, const AttentionShape&, const KvLayout&,
                              std::span<const AttentionItem>, const float*, const Observation&);
  std::size_t stride_ = 0, thread_floats_ = 0;
  bool seals_ = false;
  Buffer<float>
      floats_;  // [n_threads, kMaxRunQueries, stride_ + head_dim], then what SealedKeys needs
};

struct Observation {
  std::span<const ObservedRows> rows;
  ColumnScratch& scratch;
  std::uint32_t layer = 0;  // of the model: what its noise depends on
};

/// sums[h * stride + j] += (or becomes) what the item's rule makes of the softmax weights on stored
/// row j of the observed queries, in order of row and then of the query heads of h. So a sum does
/// not depend on how its queries were cut into steps. `q` as for `attend`; layers without a window.
/// Where the layer seals: once its rows are appended, no formats of CodeFit::range, and no
/// KvRows::n_fewer. Method: column sums of the attention matrix, which flash attention never forms:
/// the scores once more over all rows that a query sees, then their softmax.
void add_column_sums(const Compute& compute, const AttentionShape& shape, const KvLayout& layout,
                     std::span<const AttentionItem> items, const float* q,
                     const Observation& observation);

}  // namespace larder
