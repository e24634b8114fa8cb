// Keys that stand for their block, and queries that stand for theirs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/attention.h"
#include "kernels/compute.h"

namespace larder {

struct SampleRule {
  std::uint32_t n_local;            // blocks, not 0
  std::uint32_t n_representatives;  // keys of a block, not 0
};

/// BlockMarks::samples of the blocks that the items fill: [2, head_dim] bf16,
///  - the sum of the representative keys, as they are stored, of the block `n_local` before: those
///    that got the greatest scores from the queries behind that block, of which there is one sample
///    for each block up to this one. Unwritten where there is no such block;
///  - the sample: the query at the block's last row, summed over the heads of the group.
/// Both depend on the rows up to the end of the block alone, so the marks are shared with it.
///   q [n_batch_rows, n_heads, head_dim], as the keys are rotated.
/// REQUIRES: the rows are appended, and the sealed blocks sealed. First blocks that are raw where
/// the layer seals get no marks, and so none tell of them.
/// Method: Xiao et al. 2024, InfLLM (arXiv:2402.04617), whose local queries are all those of the
/// window.
void write_key_samples(const Compute& compute, const AttentionShape& shape, const KvLayout& layout,
                       std::span<const AttentionItem> items, const float* q,
                       const SampleRule& rule);

/// to [head_dim] += the sample of a block's marks, which stands behind its first half.
void add_sample(const std::byte* sample, std::size_t head_dim, float* to);

}  // namespace larder
