#include "model/weights.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/fail.h"
#include "kernels/transpose_heads.h"
#include "tensor/packed.h"
#include "tensor/quantize.h"

namespace larder {
namespace {

/// Output rows [first, first + n) of a fused layer.
LinearWeight rows_of(LinearWeight w, std::uint32_t first, std::uint32_t n) {
  w.data += first * row_bytes(w.dtype, w.n_in);
  if (w.bias != nullptr) w.bias += first;
  w.n_out = n;
  return w;
}

/// The matrices of a layer that may be packed, in the order in which a step reads them.
std::vector<LinearWeight*> matrices(LayerWeights& w) {
  std::vector<LinearWeight*> all = {&w.latent.q_a, &w.q,    &w.latent.kv_a, &w.k,   &w.v,
                                    &w.o,          &w.gate, &w.up,          &w.down};
  ExpertWeights& e = w.experts;
  for (std::size_t i = 0; i < e.gate.size(); ++i) {
    all.insert(all.end(), {&e.gate[i], &e.up[i], &e.down[i]});
  }
  all.insert(all.end(), {&e.shared_gate, &e.shared_up, &e.shared_down});
  return all;
}

bool waits(const LinearWeight& w) { return !w.is_packed && can_pack(w.dtype) && w.n_out != 0; }

}  // namespace

/// Looks tensors up by canonical name and checks what it finds.
class WeightsLoader {
 public:
  WeightsLoader(const ModelSource& source, ThreadPool* pool, Weights& weights)
      : source_(source), config_(source.config()), pool_(pool), weights_(weights) {}

  /// Address space for every matrix that may be packed; what stays unused takes no memory.
  Result<void> reserve() {
    if (pool_ == nullptr) return {};
    std::size_t n = 0;
    for (const std::string& name : source_.tensor_names()) {
      const auto view = source_.find(name);
      if (!view || view->n_dims < 2 || !can_pack(view->dtype)) continue;
      // Fused layers and stacked experts become several, each with a last panel of its own.
      const std::size_t n_parts = std::max<std::size_t>(config_.experts.n_experts, 3);
      const std::size_t n_panels = view->n_rows() / kPanelRows + n_parts;
      n += HugeArena::rounded(n_panels * panel_bytes(view->dtype, view->n_cols()));
    }
    LARDER_ASSIGN(weights_.panels_, HugeArena::create(n));
    return {};
  }

  Result<void> load_model() {
    weights_.config_ = &config_;
    LARDER_ASSIGN(weights_.token_embedding_,
                  matrix("token_embd.weight", config_.n_vocab, config_.n_embd));
    LARDER_ASSIGN(weights_.output_norm_, norm("output_norm.weight", config_.n_embd));
    weights_.tied_ = !source_.find("output.weight");
    LARDER_ASSIGN(weights_.output_, linear_layer(weights_.tied_ ? "token_embd" : "output",
                                                 config_.n_vocab, config_.n_embd));
    return {};
  }

  /// A layer count that lies would otherwise cut the model short without a word.
  Result<void> check_layer_count() const {
    constexpr std::string_view kPrefix = "blk.";
    for (const std::string& name : source_.tensor_names()) {
      if (!name.starts_with(kPrefix)) continue;
      std::uint32_t layer = 0;
      const char* digits = name.data() + kPrefix.size();
      const auto parsed = std::from_chars(digits, name.data() + name.size(), layer);
      if (parsed.ptr != digits && layer >= config_.n_layers) {
        return fail(Errc::corrupt,
                    "{}: tensor '{}' belongs to a layer past the {} that are announced",
                    source_.path(), name, config_.n_layers);
      }
    }
    return {};
  }

  Result<LayerWeights> load_layer(std::uint32_t index) {
    prefix_ = fmt::format("blk.{}.", index);
    LayerWeights w;
    LARDER_ASSIGN(w.attn_norm, norm(prefix_ + "attn_norm.weight", config_.n_embd));
    LARDER_TRY(config_.has_latent() ? load_latent(w) : load_attention(w, index));
    LARDER_ASSIGN(w.ffn_norm, norm(prefix_ + "ffn_norm.weight", config_.n_embd));
    LARDER_TRY(config_.has_experts(index) ? load_experts(w.experts) : load_feed_forward(w));
    if (config_.post_norms) {
      LARDER_ASSIGN(w.post_attn_norm, norm(prefix_ + "post_attention_norm.weight", config_.n_embd));
      LARDER_ASSIGN(w.post_ffn_norm, norm(prefix_ + "post_ffw_norm.weight", config_.n_embd));
    }
    return w;
  }

 private:
  Result<void> load_attention(LayerWeights& w, std::uint32_t index) {
    const std::uint32_t n_q = config_.n_heads * config_.head_dim;
    const std::uint32_t n_kv = config_.n_kv_heads * config_.head_dim;
    if (config_.fused_qkv) {
      LARDER_ASSIGN(auto qkv, linear_layer(prefix_ + "attn_qkv", n_q + 2 * n_kv, config_.n_embd));
      w.q = rows_of(qkv, 0, n_q);
      w.k = rows_of(qkv, n_q, n_kv);
      w.v = rows_of(qkv, n_q + n_kv, n_kv);
    } else {
      LARDER_ASSIGN(w.q, linear_layer(prefix_ + "attn_q", n_q, config_.n_embd));
      if (config_.owns_kv(index)) {
        LARDER_ASSIGN(w.k, linear_layer(prefix_ + "attn_k", n_kv, config_.n_embd));
        LARDER_ASSIGN(w.v, linear_layer(prefix_ + "attn_v", n_kv, config_.n_embd));
      }
    }
    LARDER_ASSIGN(w.o, linear_layer(prefix_ + "attn_output", config_.n_embd, n_q));
    if (config_.qk_norm) {
      LARDER_ASSIGN(w.q_norm, norm(prefix_ + "attn_q_norm.weight", config_.head_dim));
      if (config_.owns_kv(index)) {
        LARDER_ASSIGN(w.k_norm, norm(prefix_ + "attn_k_norm.weight", config_.head_dim));
      }
    }
    return {};
  }

  Result<void> load_latent(LayerWeights& w) {
    const LatentConfig& c = config_.latent;
    const std::uint32_t n_q = config_.n_heads * config_.head_dim;
    if (c.q_rank != 0) {
      LARDER_ASSIGN(w.latent.q_a, linear_layer(prefix_ + "attn_q_a", c.q_rank, config_.n_embd));
      LARDER_ASSIGN(w.latent.q_a_norm, norm(prefix_ + "attn_q_a_norm.weight", c.q_rank));
      LARDER_ASSIGN(w.q, linear_layer(prefix_ + "attn_q_b", n_q, c.q_rank));
    } else {
      LARDER_ASSIGN(w.q, linear_layer(prefix_ + "attn_q", n_q, config_.n_embd));
    }
    LARDER_ASSIGN(w.latent.kv_a,
                  linear_layer(prefix_ + "attn_kv_a_mqa", c.row_dim(), config_.n_embd));
    LARDER_ASSIGN(w.latent.kv_a_norm, norm(prefix_ + "attn_kv_a_norm.weight", c.kv_rank));
    LARDER_TRY(load_heads(w.latent));
    LARDER_ASSIGN(w.o,
                  linear_layer(prefix_ + "attn_output", config_.n_embd, config_.n_heads * c.v_dim));
    return {};
  }

  /// attn_kv_b holds the rows of k_up and v_up by turns, head by head; newer GGUF files hold
  /// k_absorb and v_up instead.
  Result<void> load_heads(LatentWeights& w) {
    const LatentConfig& c = config_.latent;
    const std::uint32_t n = config_.n_heads;
    const bool joined = source_.find(prefix_ + "attn_kv_b.weight").has_value();
    if (joined) {
      const std::uint32_t per_head = c.nope_dim + c.v_dim;
      LARDER_ASSIGN(const auto all, linear_layer(prefix_ + "attn_kv_b", n * per_head, c.kv_rank));
      for (std::uint32_t h = 0; h < n; ++h) {
        w.k_up.push_back(rows_of(all, h * per_head, c.nope_dim));
        w.v_up.push_back(rows_of(all, h * per_head + c.nope_dim, c.v_dim));
      }
    } else {
      LARDER_ASSIGN(w.k_absorb, stacked(prefix_ + "attn_k_b", n, c.kv_rank, c.nope_dim));
      LARDER_ASSIGN(w.v_up, stacked(prefix_ + "attn_v_b", n, c.v_dim, c.kv_rank));
    }
    auto transposed = transpose_heads(joined ? w.k_up : w.k_absorb);
    (joined ? w.k_absorb : w.k_up) = std::move(transposed.heads);
    weights_.transposed_.push_back(std::move(transposed.bytes));
    return {};
  }

  Result<void> load_experts(ExpertWeights& w) {
    const ExpertConfig& c = config_.experts;
    const std::uint32_t n_embd = config_.n_embd;
    if (source_.find(prefix_ + "exp_probs_b.bias")) {
      return fail(Errc::unsupported,
                  "{}: tensor '{}exp_probs_b.bias': routing with a bias per expert", source_.path(),
                  prefix_);
    }
    LARDER_ASSIGN(w.router, linear_layer(prefix_ + "ffn_gate_inp", c.n_experts, n_embd));
    LARDER_ASSIGN(w.gate, experts("ffn_gate", c.n_ff, n_embd));
    LARDER_ASSIGN(w.up, experts("ffn_up", c.n_ff, n_embd));
    LARDER_ASSIGN(w.down, experts("ffn_down", n_embd, c.n_ff));
    if (c.n_shared == 0) return {};
    const std::uint32_t n_ff = c.n_shared * c.n_ff;
    LARDER_ASSIGN(w.shared_gate, linear_layer(prefix_ + "ffn_gate_shexp", n_ff, n_embd));
    LARDER_ASSIGN(w.shared_up, linear_layer(prefix_ + "ffn_up_shexp", n_ff, n_embd));
    LARDER_ASSIGN(w.shared_down, linear_layer(prefix_ + "ffn_down_shexp", n_embd, n_ff));
    return {};
  }

  /// One tensor for all experts, as in GGUF files, or one for each, as in Hugging Face's.
  Result<std::vector<LinearWeight>> experts(std::string_view name, std::uint32_t n_out,
                                            std::uint32_t n_in) {
    const std::uint32_t n = config_.experts.n_experts;
    const std::string stack = fmt::format("{}{}_exps", prefix_, name);
    if (source_.find(stack + ".weight")) return stacked(stack, n, n_out, n_in);
    std::vector<LinearWeight> all;
    for (std::uint32_t i = 0; i < n; ++i) {
      LARDER_ASSIGN(auto w, linear_layer(fmt::format("{}{}.{}", prefix_, name, i), n_out, n_in));
      all.push_back(w);
    }
    return all;
  }

  /// `n` matrices [n_out, n_in] one after the other in a tensor of two or three dimensions.
  Result<std::vector<LinearWeight>> stacked(const std::string& name, std::uint32_t n,
                                            std::uint32_t n_out, std::uint32_t n_in) {
    const auto view = source_.find(name + ".weight");
    if (!view) {
      return fail(Errc::not_found, "{}: tensor '{}.weight' is missing", source_.path(), name);
    }
    if (view->n_rows() != std::uint64_t{n} * n_out || view->n_cols() != n_in ||
        (view->n_dims == 3 && view->shape[0] != n)) {
      return fail(Errc::corrupt,
                  "{}: tensor '{}.weight' has {} rows of {}, expected {} times {} of {}",
                  source_.path(), name, view->n_rows(), view->n_cols(), n, n_out, n_in);
    }
    const LinearWeight first{view->dtype, n_out, n_in, view->bytes.data(), nullptr};
    LARDER_TRY(check_linear(first, source_.path() + ": tensor '" + name + ".weight'"));
    std::vector<LinearWeight> all(n, first);
    const std::size_t n_bytes = n_out * row_bytes(view->dtype, n_in);
    for (std::uint32_t i = 0; i < n; ++i) all[i].data += i * n_bytes;
    return all;
  }

  Result<void> load_feed_forward(LayerWeights& w) {
    if (config_.fused_gate_up) {
      LARDER_ASSIGN(auto both, linear_layer(prefix_ + "ffn_up", 2 * config_.n_ff, config_.n_embd));
      w.gate = rows_of(both, 0, config_.n_ff);
      w.up = rows_of(both, config_.n_ff, config_.n_ff);
    } else {
      LARDER_ASSIGN(w.gate, linear_layer(prefix_ + "ffn_gate", config_.n_ff, config_.n_embd));
      LARDER_ASSIGN(w.up, linear_layer(prefix_ + "ffn_up", config_.n_ff, config_.n_embd));
    }
    LARDER_ASSIGN(w.down, linear_layer(prefix_ + "ffn_down", config_.n_embd, config_.n_ff));
    return {};
  }

  Result<TensorView> matrix(const std::string& name, std::uint64_t n_rows, std::uint64_t n_cols) {
    const auto view = source_.find(name);
    if (!view)
      return fail(Errc::not_found, "{}: tensor '{}' is missing", source_.path(),
                  source_.shown_name(name));
    if (view->n_dims != 2 || view->shape[0] != n_rows || view->shape[1] != n_cols) {
      return fail(Errc::corrupt, "{}: tensor '{}' is [{}, {}], expected [{}, {}]", source_.path(),
                  name, view->n_rows(), view->n_cols(), n_rows, n_cols);
    }
    return *view;
  }

  Result<LinearWeight> linear_layer(const std::string& name, std::uint32_t n_out,
                                    std::uint32_t n_in) {
    LARDER_ASSIGN(const auto view, matrix(name + ".weight", n_out, n_in));
    LinearWeight w{view.dtype, n_out, n_in, view.bytes.data(), nullptr};
    LARDER_TRY(check_linear(w, source_.path() + ": tensor '" + name + ".weight'"));
    if (source_.find(name + ".bias")) {
      LARDER_ASSIGN(w.bias, vector(name + ".bias", n_out, 0));
    }
    return w;
  }

  Result<const float*> norm(const std::string& name, std::uint32_t n) {
    return vector(name, n, source_.norm_weight_offset());
  }

  Result<const float*> vector(const std::string& name, std::uint32_t n, float offset) {
    const auto view = source_.find(name);
    if (!view)
      return fail(Errc::not_found, "{}: tensor '{}' is missing", source_.path(),
                  source_.shown_name(name));
    if (view->n_rows() != 1 || view->n_cols() != n) {
      return fail(Errc::corrupt, "{}: tensor '{}' has {} x {} elements, expected {}",
                  source_.path(), name, view->n_rows(), view->n_cols(), n);
    }
    Buffer<float> values(n);
    decode_row(view->dtype, view->bytes.data(), n, values.data());
    for (std::uint32_t i = 0; i < n; ++i) {
      if (!std::isfinite(values[i])) {
        return fail(Errc::corrupt, "{}: tensor '{}' holds {} at index {}", source_.path(), name,
                    values[i], i);
      }
      values[i] += offset;
    }
    weights_.floats_.push_back(std::move(values));
    return weights_.floats_.back().data();
  }

  const ModelSource& source_;
  const ModelConfig& config_;
  ThreadPool* pool_;
  Weights& weights_;
  std::string prefix_;
};

void Weights::embed(std::size_t token, float* out) const {
  const std::size_t n_embd = config_->n_embd;
  if (tied_ && output_.is_packed) {  // so that the file's pages stay away
    return decode_packed_row(output_.dtype, output_.data, token, n_embd, out);
  }
  const std::size_t stride = row_bytes(token_embedding_.dtype, n_embd);
  decode_row(token_embedding_.dtype, token_embedding_.bytes.data() + token * stride, n_embd, out);
}

/// Slice by slice, so that little of the file is in memory beside the panels.
void Weights::pack(ThreadPool& pool, LinearWeight& w) {
  constexpr std::size_t kSliceBytes = std::size_t{2} << 20;
  const std::size_t row = row_bytes(w.dtype, w.n_in);
  const std::size_t n_panels = std::max<std::size_t>(kSliceBytes / row / kPanelRows, 1);
  std::byte* const panels = panels_.take(packed_bytes(w.dtype, w.n_out, w.n_in));
  std::byte* out = panels;
  const auto step = static_cast<std::uint32_t>(n_panels * kPanelRows);
  for (std::uint32_t first = 0; first < w.n_out; first += step) {
    const LinearWeight slice = rows_of(w, first, std::min(step, w.n_out - first));
    pack_linear(pool, slice, out);
    out += n_panels * panel_bytes(w.dtype, w.n_in);
    TensorView rows;
    rows.bytes = {slice.data, slice.n_out * row};
    source_->forget(rows);
  }
  w.data = panels;
  w.is_packed = true;
}

bool Weights::pack_some(ThreadPool& pool, std::size_t n_bytes) {
  std::size_t n_done = 0;
  for (; n_packed_ <= layers_.size(); ++n_packed_) {
    const bool is_layer = n_packed_ < layers_.size();
    for (LinearWeight* w : is_layer ? matrices(layers_[n_packed_]) : std::vector{&output_}) {
      if (!waits(*w)) continue;
      if (n_done >= n_bytes) return true;
      pack(pool, *w);
      n_done += packed_bytes(w->dtype, w->n_out, w->n_in);
    }
  }
  return false;
}

Result<Weights> Weights::load(const ModelSource& source, const LoadOptions& options) {
  Weights weights;
  weights.source_ = &source;
  WeightsLoader loader(source, options.pool, weights);
  LARDER_TRY(loader.check_layer_count());
  LARDER_TRY(loader.load_model());
  LARDER_TRY(loader.reserve());
  const auto pack_now = [&](LinearWeight& w) {
    const bool now = !options.defer || w.dtype == DType::bf16;
    if (options.pool != nullptr && waits(w) && now) weights.pack(*options.pool, w);
  };
  const std::uint32_t n_layers = source.config().n_layers;
  weights.layers_.reserve(n_layers);
  for (std::uint32_t i = 0; i < n_layers; ++i) {
    LARDER_ASSIGN(auto layer, loader.load_layer(i));
    for (LinearWeight* w : matrices(layer)) pack_now(*w);
    weights.layers_.push_back(std::move(layer));
    if (options.progress) {
      options.progress(static_cast<float>(i + 1) / static_cast<float>(n_layers));
    }
  }
  pack_now(weights.output_);
  if (!options.defer) weights.n_packed_ = n_layers + 1;
  return weights;
}

}  // namespace larder
