// A whole model with fewer KV heads.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "larder/result.h"
#include "model/io/model_source.h"
#include "model/surgery/pool_heads.h"
#include "model/surgery/replaced_source.h"
#include "tensor/dtype.h"

namespace larder {

/// How the new matrices of a conversion are made and stored.
struct SurgerySettings {
  std::optional<DType> type;              // of new matrices; empty: what they replace has
  const InputMoments* moments = nullptr;  // [n_layers]; null: assumed from the norms' weights
  std::function<void(float)> progress;    // 0..1; may be empty
};

/// Puts the projections of layer `index` under the names and with the fusion and biases that `out`
/// (its base) has; `all`: also q and the output, which plain pooling leaves alone.
/// Errors: those of ReplacedSource.
Result<void> put_attention(const AttentionLayer& layer, std::uint32_t index, bool all,
                           std::optional<DType> type, ReplacedSource& out);

/// The attention of every layer through pool_heads; biases, fused projections and the rows' order
/// stay as the source has them. Memory: the new attention matrices, encoded, and one layer in
/// double precision. Errors: invalid_argument (a number of heads that does not divide the model's),
/// those of read_attention and ReplacedSource. REQUIRES: Weights::load accepted the source.
Result<std::unique_ptr<ModelSource>> pool_model(std::unique_ptr<ModelSource> source,
                                                const PoolHeads& to,
                                                const SurgerySettings& settings);

}  // namespace larder
