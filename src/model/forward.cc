#include "model/forward.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/key_samples.h"
#include "kernels/rmsnorm.h"
#include "model/rope_table.h"

namespace larder {
namespace {

std::size_t max_input_columns(const ModelConfig& config) {
  return std::max(
      {config.n_embd, config.max_ff(), config.n_heads * config.value_dim(), config.latent.q_rank});
}

/// Width of what a token gives to the cache as keys, or as its one row of latent attention.
std::size_t key_width(const ModelConfig& config) {
  if (config.has_latent()) return config.latent.row_dim();
  return std::size_t{config.n_kv_heads} * config.head_dim;
}

}  // namespace

ForwardPass::ForwardPass(const Weights& weights, const Compute& compute,
                         std::span<const KvLayout> layouts, std::uint32_t block_tokens,
                         const ForwardLimits& limits)
    : weights_(weights),
      config_(weights.config()),
      compute_(compute),
      layouts_(layouts.begin(), layouts.end()),
      block_tokens_(block_tokens),
      x_(std::size_t{limits.max_rows} * config_.n_embd),
      normed_(x_.size()),
      q_(std::size_t{limits.max_rows} * config_.n_heads * config_.head_dim),
      k_(limits.max_rows * key_width(config_)),
      v_(config_.has_latent() ? 0 : k_.size()),
      attended_(std::size_t{limits.max_rows} * config_.n_heads * config_.value_dim()),
      delta_(x_.size()),
      gate_(std::size_t{limits.max_rows} * config_.max_ff()),
      up_(gate_.size()),
      logit_rows_(std::size_t{limits.max_logit_rows} * config_.n_embd),
      input_(std::max(limits.max_rows, limits.max_logit_rows), max_input_columns(config_)),
      items_(limits.max_sequences),
      positions_(limits.max_rows) {
  const bool has_local = config_.rope.local_base != 0;
  for (int local = 0; local <= static_cast<int>(has_local); ++local) {
    Rope rope{make_rope_table(config_, local != 0, limits.max_context), {}, {}};
    const std::size_t n = std::size_t{limits.max_rows} * rope.table.inv_freq.size();
    rope.cos = Buffer<float>(n);
    rope.sin = Buffer<float>(n);
    ropes_.push_back(std::move(rope));
  }
  const unsigned n_threads = compute.pool.n_threads();
  std::size_t open_bytes = 0;
  for (const KvLayout& layout : layouts_) open_bytes = std::max(open_bytes, layout.open_bytes);
  fresh_ = Buffer<std::byte>(max_fresh_blocks(limits.max_rows, limits.max_sequences, block_tokens) *
                             config_.n_kv_heads * open_bytes);
  for (KvLayout& layout : layouts_) layout.fresh = fresh_.data();
  if (config_.experts.n_experts != 0) experts_ = Experts(config_, limits);
  if (!limits.reading.reads_all()) {
    block_choice_ =
        BlockChoice(attention_shape(0), limits.reading,
                    {n_threads, limits.max_rows, limits.max_sequences, limits.max_context});
    n_full_.reserve(limits.max_sequences);
  }
  observed_.reserve(limits.max_sequences);
  counted_.reserve(limits.max_sequences);
  make_room(limits);
}

void ForwardPass::run(const ForwardBatch& batch) {
  n_rows_ = static_cast<std::uint32_t>(batch.tokens.size());
  LARDER_CHECK(n_rows_ <= limits_.max_rows && batch.sequences.size() <= limits_.max_sequences);
  embed(batch);
  for (std::uint32_t layer = 0; layer < config_.n_layers; ++layer) {
    attention_part(layer, batch);
    feed_forward_part(layer);
  }
}

void ForwardPass::logits(std::span<const std::uint32_t> rows, std::span<float> out) {
  LARDER_CHECK(rows.size() <= limits_.max_logit_rows);
  const std::size_t n_embd = config_.n_embd;
  compute_.pool.for_each(rows.size(), [&](std::size_t i, unsigned) {
    rmsnorm(compute_.simd, x_.data() + rows[i] * n_embd, weights_.output_norm(), config_.norm_eps,
            n_embd, logit_rows_.data() + i * n_embd);
  });
  input_.set(logit_rows_.data(), rows.size(), n_embd);
  linear(compute_, weights_.output(), input_, out, config_.n_vocab);
  if (config_.logit_soft_cap != 0) {
    compute_.pool.for_each(rows.size(), [&](std::size_t i, unsigned) {
      compute_.simd.tanh_cap(out.data() + i * config_.n_vocab, config_.logit_soft_cap,
                             config_.n_vocab);
    });
  }
}

void ForwardPass::hidden(std::uint32_t row, std::span<float> out) const {
  LARDER_CHECK(row < n_rows_ && out.size() == config_.n_embd);
  rmsnorm(compute_.simd, x_.data() + std::size_t{row} * config_.n_embd, weights_.output_norm(),
          config_.norm_eps, config_.n_embd, out.data());
}

void ForwardPass::embed(const ForwardBatch& batch) {
  const std::size_t n_embd = config_.n_embd;
  compute_.pool.for_each(n_rows_, [&](std::size_t row, unsigned) {
    float* x = x_.data() + row * n_embd;
    weights_.embed(static_cast<std::size_t>(batch.tokens[row]), x);
    if (config_.embedding_scale != 1.0F) compute_.simd.scale(config_.embedding_scale, x, n_embd);
  });
  for (const SequenceRows& s : batch.sequences) {
    for (std::uint32_t i = 0; i < s.n_rows; ++i) positions_[s.first_row + i] = s.n_past + i;
  }
  for (Rope& rope : ropes_) {
    const std::size_t n = n_rows_ * rope.table.inv_freq.size();
    rope_angles(rope.table, std::span(positions_).first(n_rows_), rope.cos.span().first(n),
                rope.sin.span().first(n));
  }
}

AttentionShape ForwardPass::attention_shape(std::uint32_t layer) const {
  return {.n_heads = config_.n_heads,
          .n_kv_heads = config_.n_kv_heads,
          .head_dim = config_.head_dim,
          .block_tokens = block_tokens_,
          .window = config_.layer_window(layer),
          .scale = config_.score_scale(),
          .soft_cap = config_.attention_soft_cap};
}

/// x += attention(norm(x)), what is cached of the new rows appended on the way.
void ForwardPass::attention_part(std::uint32_t layer, const ForwardBatch& batch) {
  const LayerWeights& w = weights_.layer(layer);
  normalise(x_, w.attn_norm, normed_);
  if (observer_) observer_(layer, normed_.span().first(std::size_t{n_rows_} * config_.n_embd));
  input_.set(normed_.data(), n_rows_, config_.n_embd);
  if (config_.has_latent()) {
    latent_attention(layer, batch);
  } else {
    grouped_attention(layer, batch);
  }
  input_.set(attended_.data(), n_rows_, config_.n_heads * config_.value_dim());
  linear(compute_, w.o, input_, delta_.span(), config_.n_embd);
  add_normed(delta_, w.post_attn_norm);
}

void ForwardPass::latent_attention(std::uint32_t layer, const ForwardBatch& batch) {
  const Rope& rope = ropes_[0];
  set_items(layer, batch);
  latent_.run(compute_,
              {weights_.layer(layer), layouts_[layer], batch,
               std::span(items_).first(batch.sequences.size()), n_rows_, rope.table,
               rope.cos.span(), rope.sin.span(), input_, q_.data(), k_.data(), attended_.data()});
}

/// MHA, GQA and MQA. A layer that reads the K and V of another has none to make or append.
void ForwardPass::grouped_attention(std::uint32_t layer, const ForwardBatch& batch) {
  const LayerWeights& w = weights_.layer(layer);
  const AttentionShape shape = attention_shape(layer);
  const std::uint32_t q_width = config_.n_heads * config_.head_dim;
  const std::uint32_t kv_width = config_.n_kv_heads * config_.head_dim;
  const bool owns_kv = config_.owns_kv(layer);

  const LinearJob qkv[] = {
      {&w.q, q_.data(), q_width}, {&w.k, k_.data(), kv_width}, {&w.v, v_.data(), kv_width}};
  linear(compute_, std::span(qkv).first(owns_kv ? 3 : 1), input_);
  if (w.q_norm != nullptr) {
    head_norm(q_, config_.n_heads, w.q_norm);
    if (owns_kv) head_norm(k_, config_.n_kv_heads, w.k_norm);
  }
  if (key_observer_ && owns_kv) {
    key_observer_(layer, k_.span().first(std::size_t{n_rows_} * kv_width));
  }

  if (!batch.observed.empty() && shape.window == 0) observe_queries(layer, batch);
  const Rope& rope = ropes_[ropes_.size() > 1 && shape.window != 0 ? 1 : 0];
  const std::size_t n_angles = rope.table.inv_freq.size();
  compute_.pool.for_each(n_rows_, [&](std::size_t row, unsigned) {
    const auto cos = rope.cos.span().subspan(row * n_angles, n_angles);
    const auto sin = rope.sin.span().subspan(row * n_angles, n_angles);
    rope_rotate(rope.table, cos, sin, q_.data() + row * q_width, 1, q_width, config_.n_heads,
                config_.head_dim);
    if (!owns_kv) return;
    rope_rotate(rope.table, cos, sin, k_.data() + row * kv_width, 1, kv_width, config_.n_kv_heads,
                config_.head_dim);
  });

  set_items(layer, batch);
  const auto items = std::span(items_).first(batch.sequences.size());
  const KvLayout& layout = layouts_[layer];
  if (limits_.has_sinks && shape.window == 0) meet_sinks(layer, batch);
  rotate_rows(layout, owns_kv);
  if (owns_kv) append_rows(compute_, shape, layout, items, k_.data(), v_.data());
  if (owns_kv && layout.marks == BlockMarks::samples) {
    write_key_samples(compute_, shape, layout, items, q_.data(),
                      {limits_.reading.n_local, limits_.reading.n_representatives});
  }
  attend_rows(layer, batch);
  if (!batch.observed.empty() && shape.window == 0) observe(layer, batch);
  if (!layout.v->rotates) return;
  compute_.pool.for_each(n_rows_, [&](std::size_t row, unsigned) {
    compute_.simd.hadamard(attended_.data() + row * q_width, config_.n_heads, config_.head_dim);
  });
}

/// Queries behind a prompt may choose what they read.
void ForwardPass::attend_rows(std::uint32_t layer, const ForwardBatch& batch) {
  const AttentionShape shape = attention_shape(layer);
  const KvLayout& layout = layouts_[layer];
  const auto items = std::span(items_).first(batch.sequences.size());
  const bool chooses = !limits_.reading.reads_all() && layer >= limits_.n_full_layers;
  if (!chooses || shape.window != 0) {
    attend(compute_, shape, layout, items, q_.data(), attended_.data(), attention_scratch_);
    return;
  }
  n_full_.clear();
  for (const SequenceRows& s : batch.sequences) n_full_.push_back(std::min(s.n_plain, s.n_rows));
  block_choice_.attend_chosen(
      compute_, {shape, layout, items, n_full_, q_.data(), attended_.data(), attention_scratch_});
}

/// Into the basis that the rows of the layer are cached in (simd/simd.h).
void ForwardPass::rotate_rows(const KvLayout& layout, bool owns_kv) {
  if (!layout.k->rotates && !layout.v->rotates) return;
  const std::size_t q_width = std::size_t{config_.n_heads} * config_.head_dim;
  const std::size_t kv_width = std::size_t{config_.n_kv_heads} * config_.head_dim;
  compute_.pool.for_each(n_rows_, [&](std::size_t row, unsigned) {
    if (layout.k->rotates) {
      compute_.simd.hadamard(q_.data() + row * q_width, config_.n_heads, config_.head_dim);
    }
    if (!owns_kv) return;
    if (layout.k->rotates) {
      compute_.simd.hadamard(k_.data() + row * kv_width, config_.n_kv_heads, config_.head_dim);
    }
    if (layout.v->rotates) {
      compute_.simd.hadamard(v_.data() + row * kv_width, config_.n_kv_heads, config_.head_dim);
    }
  });
}

/// Before the queries are rotated.
void ForwardPass::observe_queries(std::uint32_t layer, const ForwardBatch& batch) {
  counted_.clear();
  for (const ObservedSequence& o : batch.observed) {
    if (o.queries.empty()) continue;
    counted_.push_back(
        {batch.sequences[o.sequence].first_row + o.first, o.n_rows, o.queries[layer]});
  }
  add_query_moments(compute_, {q_.data(), config_.n_heads, config_.head_dim}, counted_);
}

void ForwardPass::observe(std::uint32_t layer, const ForwardBatch& batch) {
  observed_.clear();
  for (const ObservedSequence& o : batch.observed) {
    if (o.sums.empty()) continue;
    observed_.push_back(
        {o.sequence, o.first, o.n_rows, o.sums[layer], o.stride, o.place, o.far, o.credit});
  }
  add_column_sums(compute_, attention_shape(layer), layouts_[layer],
                  std::span(items_).first(batch.sequences.size()), q_.data(),
                  {observed_, column_scratch_, layer});
}

void ForwardPass::set_items(std::uint32_t layer, const ForwardBatch& batch) {
  std::uint32_t slot = 0;
  for (std::size_t i = 0; i < batch.sequences.size(); ++i) {
    const SequenceRows& s = batch.sequences[i];
    items_[i] = {s.first_row, s.n_rows, s.n_stored[layer],
                 s.heads.subspan(std::size_t{layer} * config_.n_kv_heads, config_.n_kv_heads),
                 slot};
    slot += n_fresh_blocks(items_[i], block_tokens_);
  }
}

/// x += down(act(gate(norm(x))) * up(norm(x))), or the experts' sum of such.
void ForwardPass::feed_forward_part(std::uint32_t layer) {
  const LayerWeights& w = weights_.layer(layer);
  normalise(x_, w.ffn_norm, normed_);
  input_.set(normed_.data(), n_rows_, config_.n_embd);
  if (config_.has_experts(layer)) {
    experts_.run(compute_, {w.experts, n_rows_, normed_.data(), input_, gate_.data(), up_.data(),
                            delta_.data()});
  } else {
    dense_feed_forward(w);
  }
  add_normed(delta_, w.post_ffn_norm);
}

void ForwardPass::dense_feed_forward(const LayerWeights& w) {
  const std::size_t n_ff = config_.n_ff;
  const LinearJob gate_up[] = {{&w.gate, gate_.data(), n_ff}, {&w.up, up_.data(), n_ff}};
  linear(compute_, gate_up, input_);
  const auto activate =
      config_.activation == Activation::silu ? compute_.simd.silu_mul : compute_.simd.gelu_tanh_mul;
  compute_.pool.for_each(n_rows_, [&](std::size_t row, unsigned) {
    float* gate = gate_.data() + row * n_ff;
    activate(gate, up_.data() + row * n_ff, gate, n_ff);
  });
  input_.set(gate_.data(), n_rows_, n_ff);
  linear(compute_, w.down, input_, delta_.span(), config_.n_embd);
}

void ForwardPass::normalise(const Buffer<float>& from, const float* weight, Buffer<float>& to) {
  const std::size_t n_embd = config_.n_embd;
  compute_.pool.for_each(n_rows_, [&](std::size_t row, unsigned) {
    rmsnorm(compute_.simd, from.data() + row * n_embd, weight, config_.norm_eps, n_embd,
            to.data() + row * n_embd);
  });
}

/// x += delta, through the norm that Gemma puts behind each part.
void ForwardPass::add_normed(const Buffer<float>& delta, const float* post_norm) {
  const std::size_t n_embd = config_.n_embd;
  compute_.pool.for_each(n_rows_, [&](std::size_t row, unsigned) {
    const float* d = delta.data() + row * n_embd;
    if (post_norm != nullptr) {
      float* normed = normed_.data() + row * n_embd;
      rmsnorm(compute_.simd, d, post_norm, config_.norm_eps, n_embd, normed);
      d = normed;
    }
    compute_.simd.axpy(1.0F, d, x_.data() + row * n_embd, n_embd);
  });
}

void ForwardPass::head_norm(Buffer<float>& x, std::uint32_t n_heads, const float* weight) {
  const std::size_t head_dim = config_.head_dim;
  compute_.pool.for_each(n_rows_, [&](std::size_t row, unsigned) {
    float* heads = x.data() + row * n_heads * head_dim;
    for (std::uint32_t h = 0; h < n_heads; ++h) {
      float* head = heads + h * head_dim;
      rmsnorm(compute_.simd, head, weight, config_.norm_eps, head_dim, head);
    }
  });
}

std::size_t ForwardPass::scratch_bytes(const ModelConfig& config, const ForwardLimits& limits,
                                       unsigned n_threads) noexcept {
  const std::size_t heads = config.n_heads;
  const std::size_t columns =
      3 * std::size_t{config.n_embd} + heads * (config.head_dim + config.value_dim()) +
      2 * key_width(config) + 2 * std::size_t{config.max_ff()} + 2 * std::size_t{config.head_dim};
  const std::size_t floats =
      limits.max_rows * columns + std::size_t{limits.max_logit_rows} * config.n_embd;
  const std::size_t input = LinearInput::n_bytes(std::max(limits.max_rows, limits.max_logit_rows),
                                                 max_input_columns(config));
  std::size_t bytes = floats * sizeof(float) + input;
  if (limits.sums_attention)
    bytes += n_threads * (std::size_t{limits.max_context} + limits.n_reread + 256) * 48;
  if (limits.has_sinks) {
    const std::size_t n_queries = limits.max_rows * heads * std::max(limits.n_capped, 1U);
    bytes += (n_queries + std::size_t{limits.max_rows} + limits.n_capped) * config.head_dim *
             sizeof(float);
  }
  if (!limits.reading.reads_all()) {
    AttentionShape shape{};
    shape.n_heads = config.n_heads;
    shape.n_kv_heads = config.n_kv_heads;
    shape.head_dim = config.head_dim;
    bytes += BlockChoice::scratch_bytes(
        shape, {n_threads, limits.max_rows, limits.max_sequences, limits.max_context});
  }
  if (config.has_latent()) bytes += LatentAttention::scratch_bytes(config, limits, n_threads);
  if (config.experts.n_experts != 0) bytes += Experts::scratch_bytes(config, limits);
  return bytes;
}

}  // namespace larder
