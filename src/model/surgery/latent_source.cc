#include "model/surgery/latent_source.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/fail.h"
#include "model/rope_table.h"
#include "model/surgery/replaced_source.h"

namespace larder {
namespace {

constexpr double kLatentEps = 1e-6;  // of the norm behind the latent, whatever the model's own

Result<void> check_expressible(const ModelSource& source) {
  const ModelConfig& c = source.config();
  const auto refuse = [&](std::string_view what) {
    return fail(Errc::unsupported, "{}: {} has {}, which deepseek2 cannot express", source.path(),
                c.arch, what);
  };
  if (c.has_latent()) {
    return fail(Errc::unsupported, "{}: {} has latent attention already", source.path(), c.arch);
  }
  if (!c.kv_owner.empty()) return refuse("layers that share K and V");
  if (c.qk_norm) return refuse("norms on q and k heads");
  if (c.post_norms) return refuse("norms behind the layers' parts");
  if (c.window != 0) return refuse("sliding windows");
  if (c.attention_soft_cap != 0 || c.logit_soft_cap != 0) return refuse("soft caps");
  if (c.embedding_scale != 1.0F) return refuse("scaled embeddings");
  if (c.activation != Activation::silu) return refuse("another activation than SiLU");
  if (c.fused_gate_up) return refuse("gate and up projections in one matrix");
  if (c.rope.scaling == RopeScaling::longrope) return refuse("rope factors for two contexts");
  for (const std::string& name : source.tensor_names()) {
    if (name.ends_with(".bias")) {
      return refuse("biases ('" + source.shown_name(name) + "')");
    }
  }
  return {};
}

/// Sizes with their defaults.
Result<ToLatent> settled(const ModelSource& source, ToLatent to) {
  const ModelConfig& c = source.config();
  const std::uint32_t most_rope = c.n_kv_heads * c.rope.n_rot;
  const std::uint32_t half = c.n_kv_heads * c.head_dim;  // of the source's cache
  if (to.rope_dim == 0) {
    to.rope_dim = std::max(2U, std::min({half / 4 * 2, c.head_dim, most_rope}));
  }
  if (to.rope_dim % 2 != 0 || to.rope_dim > most_rope) {
    return fail(Errc::invalid_argument, "{}: rope-dim is {}, must be even and at most {} ({} {})",
                source.path(), to.rope_dim, most_rope, "rotating channels of the",
                fmt::format("{} KV heads", c.n_kv_heads));
  }
  if (to.kv_rank == 0) to.kv_rank = half > to.rope_dim ? half - to.rope_dim : 2;
  return to;
}

Result<void> check_rank(const ModelSource& source, const ToLatent& to, std::uint32_t nope_dim) {
  const ModelConfig& c = source.config();
  const std::uint32_t most = c.n_kv_heads * (nope_dim + c.head_dim);
  if (to.kv_rank % 2 == 0 && to.kv_rank <= most) return {};
  return fail(
      Errc::invalid_argument,
      "{}: kv-latent is {}, must be even and at most {}: {} KV heads x ({} channels of keys "
      "without rope + {} of values)",
      source.path(), to.kv_rank, most, c.n_kv_heads, nope_dim, c.head_dim);
}

InputMoment moment_of(const ModelSource& source, const SurgerySettings& settings,
                      std::uint32_t layer) {
  return settings.moments != nullptr ? (*settings.moments)[layer] : assumed_moment(source, layer);
}

/// Energy of each component, summed over the layers. [n_pairs of the rotating ones][n_kv_heads]
Result<std::vector<std::vector<double>>> total_importance(const ModelSource& source,
                                                          const SurgerySettings& settings) {
  const ModelConfig& c = source.config();
  std::vector<std::vector<double>> sums(c.rope.n_rot / 2, std::vector<double>(c.n_kv_heads));
  for (std::uint32_t i = 0; i < c.n_layers; ++i) {
    LARDER_ASSIGN(const AttentionLayer layer, read_attention(source, i));
    const auto components = pair_components(layer, c, moment_of(source, settings, i));
    for (std::size_t pair = 0; pair < sums.size(); ++pair) {
      for (std::size_t j = 0; j < c.n_kv_heads; ++j) {
        sums[pair][j] += components[pair].importance[j];
      }
    }
    if (settings.progress) {
      settings.progress(0.5F * static_cast<float>(i + 1) / static_cast<float>(c.n_layers));
    }
  }
  return sums;
}

Result<LatentLayout> plan_layout(const ModelSource& source, const ToLatent& to,
                                 const SurgerySettings& settings) {
  const ModelConfig& c = source.config();
  LARDER_ASSIGN(auto importance, total_importance(source, settings));
  LatentLayout layout;
  const RopeTable table = make_rope_table(c, false, c.n_context_train);
  layout.turns = mean_turns(table.inv_freq, c.n_context_train);
  if (to.choice == RopeChoice::loss) {
    for (std::size_t pair = 0; pair < importance.size(); ++pair) {
      for (double& energy : importance[pair]) energy *= 1 - std::norm(layout.turns[pair]);
    }
  }
  layout.kept = choose_rope(to.choice, to.rope_dim / 2, importance);
  layout.kept.resize(c.head_dim / 2);  // channels beyond the rotating ones keep nothing
  layout.nope_dim = nope_channels(layout.kept, c.n_kv_heads);
  layout.kv_rank = to.kv_rank;
  for (std::uint32_t j = 0; j < c.n_kv_heads; ++j) {
    for (std::uint32_t pair = 0; pair < layout.kept.size(); ++pair) {
      if (j < layout.kept[pair]) layout.rope_order.push_back(pair);
    }
  }
  const double amplitude = table.amplitude;
  const double head_dim = c.head_dim;
  const double own = c.attention_scale != 0 ? c.attention_scale : 1 / std::sqrt(head_dim);
  layout.rotated_scale = amplitude * amplitude;
  for (auto& turn : layout.turns) turn *= layout.rotated_scale;
  layout.turns.resize(c.head_dim / 2, 1.0);
  layout.scale_ratio = own * std::sqrt(static_cast<double>(layout.nope_dim + to.rope_dim));
  return layout;
}

ModelConfig latent_config(const ModelConfig& from, const ToLatent& to, const LatentLayout& layout) {
  ModelConfig c = from;
  c.arch = "deepseek2";
  c.n_kv_heads = 1;
  c.head_dim = layout.nope_dim + to.rope_dim;
  c.latent.kv_rank = layout.kv_rank;
  c.latent.nope_dim = layout.nope_dim;
  c.latent.rope_dim = to.rope_dim;
  c.latent.v_dim = from.head_dim;
  c.attention_scale = 0;
  c.fused_qkv = false;
  const auto table = make_rope_table(from, false, from.n_context_train);
  std::vector<float> frequencies;
  for (const std::uint32_t pair : layout.rope_order) frequencies.push_back(table.inv_freq[pair]);
  c.rope = rope_with(frequencies, from.rope.base);
  c.rope.original_context = from.n_context_train;
  return c;
}

/// Latents and the norm behind them, at the size that `norm` asks for. Returns the norm's weight.
double scale_latents(LatentNorm norm, LatentLayer& layer) {
  const std::vector<double>& energy = layer.latent_energy;
  const std::size_t rank = energy.size();
  std::vector<double> scales(rank, 1.0);
  if (norm == LatentNorm::rms) {
    // The norm takes a token's length away. The more channels share in it, the nearer it is to its
    // mean; but those that hardly matter vary in ways of their own. Half-way between channels as
    // large as what they carry and channels of equal size lost least (docs/conversion.md).
    for (std::size_t r = 0; r < rank; ++r) scales[r] = std::pow(std::max(energy[r], 1e-30), -0.25);
  }
  double mean_square = 0;
  for (std::size_t r = 0; r < rank; ++r) {
    mean_square += scales[r] * scales[r] * std::max(energy[r], 0.0) / static_cast<double>(rank);
  }
  constexpr double kTiny = 1e-3;  // of the norm's epsilon, as a root: relative error 5e-7
  const double size = norm == LatentNorm::linear ? kTiny * std::sqrt(kLatentEps) : 1.0;
  const double common = size / std::sqrt(std::max(mean_square, 1e-30));
  for (std::size_t r = 0; r < rank; ++r) {
    for (double& x : layer.kv_a.row(r)) x *= scales[r] * common;
    if (norm == LatentNorm::linear) continue;  // its weight takes all back
    for (std::size_t i = 0; i < layer.kv_b.rows; ++i) layer.kv_b(i, r) /= scales[r] * common;
  }
  return norm == LatentNorm::linear ? std::sqrt(kLatentEps) / common : 1;
}

Result<void> put_layer(LatentLayer layer, std::uint32_t index, LatentNorm norm,
                       const SurgerySettings& settings, ReplacedSource& out) {
  const std::string prefix = fmt::format("blk.{}.", index);
  const bool fused = out.base().config().fused_qkv;
  const std::string stored = prefix + (fused ? "attn_qkv.weight" : "attn_k.weight");
  const DType type = settings.type.value_or(out.base().find(stored)->dtype);
  const std::uint32_t rank = out.config().latent.kv_rank;
  const double gain = scale_latents(norm, layer);
  for (const char* part : {"attn_qkv", "attn_q", "attn_k", "attn_v"}) {
    out.remove(prefix + part + ".weight");
  }
  const std::string kv_a = prefix + "attn_kv_a_mqa.weight";
  LARDER_TRY(out.put_matrix(prefix + "attn_q.weight", layer.q, type));
  if (norm == LatentNorm::linear) {  // beyond the range of the other types
    out.pin_type(kv_a);
    LARDER_TRY(out.put_matrix(kv_a, layer.kv_a, type == DType::bf16 ? type : DType::f32));
  } else {
    LARDER_TRY(out.put_matrix(kv_a, layer.kv_a, type));
  }
  LARDER_TRY(out.put_vector(prefix + "attn_kv_a_norm.weight", std::vector<double>(rank, gain)));
  return out.put_matrix(prefix + "attn_kv_b.weight", layer.kv_b, type);
}

}  // namespace

std::vector<std::uint32_t> choose_rope(RopeChoice choice, std::uint32_t n,
                                       const std::vector<std::vector<double>>& importance) {
  const auto n_pairs = static_cast<std::uint32_t>(importance.size());
  const std::size_t n_heads = importance.at(0).size();
  LARDER_CHECK(n <= n_pairs * n_heads);
  std::vector<std::uint32_t> kept(n_pairs);
  if (choice == RopeChoice::norm || choice == RopeChoice::loss) {
    for (; n > 0; --n) {  // a pair's components fall, so the next one of a pair is its best
      std::uint32_t best = n_pairs;
      for (std::uint32_t pair = 0; pair < n_pairs; ++pair) {
        if (kept[pair] == n_heads) continue;
        if (best == n_pairs || importance[pair][kept[pair]] > importance[best][kept[best]]) {
          best = pair;
        }
      }
      ++kept[best];
    }
    return kept;
  }
  for (std::uint32_t& count : kept) count = n / n_pairs;
  const std::uint32_t rest = n % n_pairs;
  for (std::uint32_t i = 0; i < rest; ++i) {
    const std::uint64_t at = choice == RopeChoice::high ? i : std::uint64_t{i} * n_pairs / rest;
    ++kept[at];
  }
  return kept;
}

std::vector<std::complex<double>> mean_turns(std::span<const float> frequencies,
                                             std::uint32_t n_distances) {
  constexpr std::uint32_t kFarthest = 1 << 16;
  const std::uint32_t n = std::clamp(n_distances, 1U, kFarthest);
  std::vector<std::complex<double>> out;
  for (const float frequency : frequencies) {
    std::complex<double> sum;
    double total = 0;
    for (std::uint32_t distance = 0; distance < n; ++distance) {
      const double often = 1.0 / (distance + 1.0);
      sum += std::polar(often, distance * static_cast<double>(frequency));
      total += often;
    }
    out.push_back(sum / total);
  }
  return out;
}

RopeConfig rope_with(const std::vector<float>& frequencies, float base) {
  constexpr double kClose = 1e-5;
  const auto n = static_cast<double>(frequencies.size());
  RopeConfig rope;
  rope.style = RopeStyle::adjacent;
  rope.n_rot = static_cast<std::uint32_t>(2 * frequencies.size());
  rope.base = base;
  double fitted = base;
  if (frequencies.size() > 1) {
    fitted = std::pow(static_cast<double>(frequencies[1]) / frequencies[0], -n);
  }
  bool fits = fitted > 1 && std::isfinite(static_cast<float>(fitted));
  std::vector<float> divisors;
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const double share = static_cast<double>(i) / n;
    fits = fits && std::abs(std::pow(fitted, -share) / frequencies[i] - 1) < kClose;
    divisors.push_back(
        static_cast<float>(std::pow(static_cast<double>(base), -share) / frequencies[i]));
  }
  if (fits) {
    rope.base = static_cast<float>(fitted);
  } else {
    rope.frequency_divisors = std::move(divisors);
  }
  return rope;
}

Result<std::unique_ptr<ModelSource>> latent_model(std::unique_ptr<ModelSource> source,
                                                  const ToLatent& to,
                                                  const SurgerySettings& settings) {
  LARDER_TRY(check_expressible(*source));
  LARDER_ASSIGN(const ToLatent sizes, settled(*source, to));
  LARDER_ASSIGN(const LatentLayout layout, plan_layout(*source, sizes, settings));
  LARDER_TRY(check_rank(*source, sizes, layout.nope_dim));
  const ModelConfig config = latent_config(source->config(), sizes, layout);
  LARDER_TRY(validate(config, source->path()));
  auto out = std::make_unique<ReplacedSource>(std::move(source), config);
  const ModelSource& base = out->base();
  for (std::uint32_t i = 0; i < config.n_layers; ++i) {
    LARDER_ASSIGN(const AttentionLayer layer, read_attention(base, i));
    const InputMoment moment = moment_of(base, settings, i);
    const auto components = pair_components(layer, base.config(), moment);
    LARDER_TRY(put_layer(to_latent(layer, components, base.config(), layout, moment), i, sizes.norm,
                         settings, *out));
    if (settings.progress) {
      settings.progress(0.5F +
                        0.5F * static_cast<float>(i + 1) / static_cast<float>(config.n_layers));
    }
  }
  return std::unique_ptr<ModelSource>(std::move(out));
}

}  // namespace larder
