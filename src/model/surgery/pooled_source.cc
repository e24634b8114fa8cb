#include "model/surgery/pooled_source.h"

#include <string>
#include <utility>
#include <vector>

#include "base/fail.h"
#include "model/surgery/replaced_source.h"

namespace larder {
namespace {

struct Projection {
  std::string name;      // "blk.3.attn_k"
  const Matrix& values;  // with the bias as last column
  bool has_bias;
};

Result<void> put_projection(const Projection& p, std::optional<DType> type, ReplacedSource& out) {
  const DType stored = out.base().find(p.name + ".weight")->dtype;
  const std::size_t n_cols = p.values.cols - 1;
  LARDER_TRY(
      out.put_matrix(p.name + ".weight", columns_of(p.values, 0, n_cols), type.value_or(stored)));
  if (!p.has_bias) return {};
  return out.put_vector(p.name + ".bias", columns_of(p.values, n_cols, 1).values);
}

Matrix stacked(const Matrix& a, const Matrix& b) {
  Matrix out = a;
  out.rows += b.rows;
  out.values.insert(out.values.end(), b.values.begin(), b.values.end());
  return out;
}

std::string possible_heads(std::uint32_t n_kv_heads) {
  std::vector<std::uint32_t> divisors;
  for (std::uint32_t n = 1; n <= n_kv_heads / 2; ++n) {
    if (n_kv_heads % n == 0) divisors.push_back(n);
  }
  if (divisors.empty()) return "which cannot become fewer";
  return fmt::format("which can become {}", fmt::join(divisors, " or "));
}

}  // namespace

Result<void> put_attention(const AttentionLayer& layer, std::uint32_t index, bool all,
                           std::optional<DType> type, ReplacedSource& out) {
  const std::string prefix = fmt::format("blk.{}.", index);
  if (out.config().fused_qkv) {
    const Matrix qkv = stacked(stacked(layer.q, layer.k), layer.v);
    LARDER_TRY(put_projection({prefix + "attn_qkv", qkv, layer.q_bias}, type, out));
  } else {
    LARDER_TRY(put_projection({prefix + "attn_k", layer.k, layer.k_bias}, type, out));
    LARDER_TRY(put_projection({prefix + "attn_v", layer.v, layer.v_bias}, type, out));
    if (all) {
      LARDER_TRY(put_projection({prefix + "attn_q", layer.q, layer.q_bias}, type, out));
    }
  }
  if (!all) return {};
  const std::string o = prefix + "attn_output.weight";
  return out.put_matrix(o, layer.o, type.value_or(out.base().find(o)->dtype));
}

Result<std::unique_ptr<ModelSource>> pool_model(std::unique_ptr<ModelSource> source,
                                                const PoolHeads& to,
                                                const SurgerySettings& settings) {
  const ModelConfig& from = source->config();
  if (from.has_latent() || !from.kv_owner.empty()) {
    return fail(Errc::unsupported, "{}: {} has {}: there are no KV heads to pool", source->path(),
                from.arch, from.has_latent() ? "latent attention" : "layers that share K and V");
  }
  if (to.n_kv_heads == 0 || from.n_kv_heads % to.n_kv_heads != 0 ||
      to.n_kv_heads == from.n_kv_heads) {
    return fail(Errc::invalid_argument, "{}: kv-heads is {}; the model has {} KV heads, {}",
                source->path(), to.n_kv_heads, from.n_kv_heads, possible_heads(from.n_kv_heads));
  }
  ModelConfig config = from;
  config.n_kv_heads = to.n_kv_heads;
  auto out = std::make_unique<ReplacedSource>(std::move(source), config);
  const ModelSource& base = out->base();
  for (std::uint32_t i = 0; i < config.n_layers; ++i) {
    LARDER_ASSIGN(const AttentionLayer layer, read_attention(base, i));
    const InputMoment moment =
        settings.moments != nullptr ? (*settings.moments)[i] : assumed_moment(base, i);
    LARDER_TRY(put_attention(pool_heads(layer, base.config(), to, moment), i, to.align,
                             settings.type, *out));
    if (settings.progress) {
      settings.progress(static_cast<float>(i + 1) / static_cast<float>(config.n_layers));
    }
  }
  return std::unique_ptr<ModelSource>(std::move(out));
}

}  // namespace larder
