#include "model/surgery/latent_layer.h"

#include <algorithm>
#include <cmath>
#include <complex>

#include "base/check.h"

namespace larder {
namespace {

using Complex = std::complex<double>;

double trace(const Matrix& a) {
  double sum = 0;
  for (std::size_t i = 0; i < std::min(a.rows, a.cols); ++i) sum += a(i, i);
  return sum;
}

/// What each query head's values write into the output: trace of E[(W_o v)(W_o v)^T]. [n_heads]
std::vector<double> output_energy(const AttentionLayer& layer, const ModelConfig& config,
                                  const InputMoment& moment) {
  const std::size_t d = config.head_dim, share = config.n_heads / config.n_kv_heads;
  std::vector<double> energy;
  for (std::size_t h = 0; h < config.n_heads; ++h) {
    const Matrix v = rows_of(layer.v, h / share * d, d);
    const Matrix o = columns_of(layer.o, h * d, d);
    energy.push_back(trace(multiply(multiply(transposed(o), o), moment_product(v, moment, v))));
  }
  return energy;
}

/// Rows `channel` of all KV heads. [n_kv_heads, n_embd + 1]
Matrix head_rows(const Matrix& heads, const ModelConfig& config, std::uint32_t channel) {
  Matrix out(config.n_kv_heads, heads.cols);
  for (std::size_t g = 0; g < config.n_kv_heads; ++g) {
    std::ranges::copy(heads.row(g * config.head_dim + channel), out.row(g).begin());
  }
  return out;
}

/// Weight of each KV head's keys in a pair: energy of its queries, each times what its head writes.
std::vector<double> key_weights(const AttentionLayer& layer, const ModelConfig& config,
                                const std::vector<double>& written,
                                std::pair<std::uint32_t, std::uint32_t> channels,
                                const InputMoment& moment) {
  const std::size_t d = config.head_dim, share = config.n_heads / config.n_kv_heads;
  std::vector<double> weights(config.n_kv_heads);
  for (std::size_t h = 0; h < config.n_heads; ++h) {
    for (const std::uint32_t channel : {channels.first, channels.second}) {
      const Matrix row = rows_of(layer.q, h * d + channel, 1);
      weights[h / share] += written[h] * moment_product(row, moment, row)(0, 0);
    }
  }
  const double largest = *std::max_element(weights.begin(), weights.end());
  for (double& w : weights) w = std::max({w, 1e-9 * largest, 1e-30});
  return weights;
}

PairComponents components_of(const Matrix& re, const Matrix& im, const std::vector<double>& weights,
                             const InputMoment& moment) {
  const std::size_t n = weights.size();
  const Matrix rr = moment_product(re, moment, re), ii = moment_product(im, moment, im);
  const Matrix ri = moment_product(re, moment, im);
  Matrix gram_re(n, n), gram_im(n, n);
  for (std::size_t a = 0; a < n; ++a) {
    for (std::size_t b = 0; b < n; ++b) {
      const double scale = std::sqrt(weights[a] * weights[b]);
      gram_re(a, b) = scale * (rr(a, b) + ii(a, b));
      gram_im(a, b) = scale * (ri(b, a) - ri(a, b));
    }
  }
  const HermitianEigen eigen = eigen_hermitian(gram_re, gram_im);
  PairComponents out{eigen.values, Matrix(n, re.cols), Matrix(n, re.cols), Matrix(n, n),
                     Matrix(n, n)};
  for (std::size_t j = 0; j < n; ++j) {
    double squares = 0;
    for (std::size_t g = 0; g < n; ++g) {
      squares += (std::pow(eigen.re(j, g), 2) + std::pow(eigen.im(j, g), 2)) / weights[g];
    }
    // Components are as large as the heads' keys are.
    const double size = std::sqrt(squares / static_cast<double>(n));
    for (std::size_t g = 0; g < n; ++g) {
      const Complex u(eigen.re(j, g), eigen.im(j, g));
      const Complex factor = u / (std::sqrt(weights[g]) * size);
      const Complex w = std::conj(u) * std::sqrt(weights[g]) * size;
      out.factor_re(j, g) = factor.real();
      out.factor_im(j, g) = factor.imag();
      for (std::size_t c = 0; c < re.cols; ++c) {
        out.re(j, c) += w.real() * re(g, c) - w.imag() * im(g, c);
        out.im(j, c) += w.real() * im(g, c) + w.imag() * re(g, c);
      }
    }
  }
  return out;
}

/// K with the kept components of every pair taken away.
Matrix without_kept(const Matrix& k, const std::vector<PairComponents>& components,
                    const ModelConfig& config, const std::vector<std::uint32_t>& kept) {
  Matrix out = k;
  for (std::uint32_t pair = 0; pair < components.size(); ++pair) {
    const auto channels = rope_pair(config, pair);
    const PairComponents& parts = components[pair];
    for (std::size_t g = 0; g < config.n_kv_heads; ++g) {
      const auto re = out.row(g * config.head_dim + channels.first);
      const auto im = out.row(g * config.head_dim + channels.second);
      for (std::size_t j = 0; j < kept[pair]; ++j) {
        const double fr = parts.factor_re(j, g), fi = parts.factor_im(j, g);
        for (std::size_t c = 0; c < re.size(); ++c) {
          re[c] -= fr * parts.re(j, c) - fi * parts.im(j, c);
          im[c] -= fr * parts.im(j, c) + fi * parts.re(j, c);
        }
      }
    }
  }
  return out;
}

/// Rotary pairs of which something goes on without rope.
std::vector<std::uint32_t> pairs_left(const ModelConfig& config,
                                      const std::vector<std::uint32_t>& kept) {
  std::vector<std::uint32_t> out;
  for (std::uint32_t pair = 0; pair < kept.size(); ++pair) {
    if (kept[pair] != config.n_kv_heads) out.push_back(pair);
  }
  return out;
}

/// Keys without rope of one KV head. [nope_dim, n_embd + 1]
Matrix head_keys_left(const Matrix& keys_left, const ModelConfig& config,
                      const LatentLayout& layout, std::size_t kv_head) {
  Matrix out(layout.nope_dim, keys_left.cols);
  std::size_t at = 0;
  for (const std::uint32_t pair : pairs_left(config, layout.kept)) {
    const auto channels = rope_pair(config, pair);
    for (const std::uint32_t channel : {channels.first, channels.second}) {
      std::ranges::copy(keys_left.row(kv_head * config.head_dim + channel), out.row(at++).begin());
    }
  }
  return out;
}

/// A query head's rows times a complex factor, as rows `at` and `at + 1`.
void put_turned(const Matrix& q, std::size_t re, std::size_t im, Complex factor, Matrix& out,
                std::size_t at) {
  for (std::size_t c = 0; c < out.cols; ++c) {
    const Complex turned = factor * Complex(q(re, c), q(im, c));
    out(at, c) = turned.real();
    out(at + 1, c) = turned.imag();
  }
}

/// What a query head meets its keys without rope with. [nope_dim, n_embd + 1]
Matrix head_queries_left(const AttentionLayer& layer, const ModelConfig& config,
                         const LatentLayout& layout, std::size_t head) {
  Matrix out(layout.nope_dim, layer.q.cols);
  const std::size_t first = head * config.head_dim;
  std::size_t at = 0;
  for (const std::uint32_t pair : pairs_left(config, layout.kept)) {
    const auto channels = rope_pair(config, pair);
    put_turned(layer.q, first + channels.first, first + channels.second, layout.turns[pair], out,
               at);
    at += 2;
  }
  return out;
}

/// Queries of all heads: channels left, then the factors of the shared rotary key.
Matrix latent_queries(const AttentionLayer& layer, const std::vector<PairComponents>& components,
                      const ModelConfig& config, const LatentLayout& layout) {
  const std::size_t n_embd = layer.q.cols - 1, share = config.n_heads / config.n_kv_heads;
  const std::size_t width = layout.nope_dim + 2 * layout.rope_order.size();
  Matrix out(config.n_heads * width, n_embd);
  for (std::size_t h = 0; h < config.n_heads; ++h) {
    const Matrix left = head_queries_left(layer, config, layout, h);
    for (std::size_t i = 0; i < layout.nope_dim; ++i) {
      std::ranges::copy(left.row(i).first(n_embd), out.row(h * width + i).begin());
    }
    std::vector<std::uint32_t> next(components.size());  // component of a pair that comes next
    for (std::size_t i = 0; i < layout.rope_order.size(); ++i) {
      const std::uint32_t pair = layout.rope_order[i];
      const std::size_t j = next[pair]++;
      const Complex factor(components[pair].factor_re(j, h / share),
                           -components[pair].factor_im(j, h / share));
      const auto channels = rope_pair(config, pair);
      put_turned(layer.q, h * config.head_dim + channels.first,
                 h * config.head_dim + channels.second, layout.rotated_scale * factor, out,
                 h * width + layout.nope_dim + 2 * i);
    }
  }
  for (double& x : out.values) x *= layout.scale_ratio;
  return out;
}

/// Keys left and values of all KV heads under each other, each head's rows times its metric's root,
/// and the inverse roots to come back.
struct WeightedStack {
  Matrix rows;                 // [n_kv_heads * (nope_dim + head_dim), n_embd + 1]
  std::vector<Matrix> k_back;  // [n_kv_heads] of [nope_dim, nope_dim]
  std::vector<Matrix> v_back;  // [n_kv_heads] of [head_dim, head_dim]
};

void add_scaled(const Matrix& from, double scale, Matrix& to) {
  for (std::size_t i = 0; i < to.values.size(); ++i) to.values[i] += scale * from.values[i];
}

WeightedStack weighted_stack(const AttentionLayer& layer, const Matrix& keys_left,
                             const ModelConfig& config, const LatentLayout& layout,
                             const InputMoment& moment) {
  const std::size_t d = config.head_dim, share = config.n_heads / config.n_kv_heads;
  const std::size_t nope = layout.nope_dim, block = nope + d;
  const auto written = output_energy(layer, config, moment);
  const double scale =
      config.attention_scale != 0 ? config.attention_scale : 1 / std::sqrt(static_cast<double>(d));
  WeightedStack out{Matrix(config.n_kv_heads * block, layer.k.cols), {}, {}};
  for (std::size_t g = 0; g < config.n_kv_heads; ++g) {
    const Matrix k = head_keys_left(keys_left, config, layout, g);
    Matrix k_metric(nope, nope), v_metric(d, d);
    for (std::size_t h = g * share; h < (g + 1) * share; ++h) {
      const Matrix q = head_queries_left(layer, config, layout, h);
      add_scaled(moment_product(q, moment, q), written[h] * scale * scale, k_metric);
      const Matrix o = transposed(columns_of(layer.o, h * d, d));
      add_scaled(multiply_transposed(o, o), 1, v_metric);
    }
    RootPair k_root = symmetric_root(k_metric), v_root = symmetric_root(v_metric);
    const Matrix weighted_k = multiply(k_root.root, k);
    const Matrix weighted_v = multiply(v_root.root, rows_of(layer.v, g * d, d));
    const auto at = out.rows.values.begin() + static_cast<std::ptrdiff_t>(g * block * k.cols);
    std::ranges::copy(weighted_k.values, at);
    std::ranges::copy(weighted_v.values, at + static_cast<std::ptrdiff_t>(nope * k.cols));
    out.k_back.push_back(std::move(k_root.inverse));
    out.v_back.push_back(std::move(v_root.inverse));
  }
  return out;
}

}  // namespace

std::vector<PairComponents> pair_components(const AttentionLayer& layer, const ModelConfig& config,
                                            const InputMoment& moment) {
  const auto written = output_energy(layer, config, moment);
  std::vector<PairComponents> out;
  for (std::uint32_t pair = 0; pair < config.head_dim / 2; ++pair) {
    const auto channels = rope_pair(config, pair);
    out.push_back(components_of(head_rows(layer.k, config, channels.first),
                                head_rows(layer.k, config, channels.second),
                                key_weights(layer, config, written, channels, moment), moment));
  }
  return out;
}

std::uint32_t nope_channels(const std::vector<std::uint32_t>& kept, std::uint32_t n_kv_heads) {
  std::uint32_t n = 0;
  for (const std::uint32_t count : kept) n += count == n_kv_heads ? 0 : 2;
  return std::max(n, 2U);  // readers expect some; channels of zeros do nothing
}

LatentLayer to_latent(const AttentionLayer& layer, const std::vector<PairComponents>& components,
                      const ModelConfig& config, const LatentLayout& layout,
                      const InputMoment& moment) {
  const std::size_t n_embd = layer.k.cols - 1, d = config.head_dim;
  const std::size_t nope = layout.nope_dim, block = nope + d, rank = layout.kv_rank;
  const std::size_t share = config.n_heads / config.n_kv_heads;
  const Matrix left = without_kept(layer.k, components, config, layout.kept);
  const WeightedStack stack = weighted_stack(layer, left, config, layout, moment);
  LARDER_CHECK(rank <= stack.rows.rows);
  const SymmetricEigen eigen = eigen_symmetric(moment_product(stack.rows, moment, stack.rows));
  const Matrix directions = rows_of(eigen.vectors, 0, rank);
  const Matrix down = multiply(directions, stack.rows);  // [rank, n_embd + 1]

  LatentLayer out;
  out.q = latent_queries(layer, components, config, layout);
  // `directions` are eigenvectors: latent channels are uncorrelated.
  out.latent_energy = eigen.values;
  out.latent_energy.resize(rank);
  out.kv_a = Matrix(rank + 2 * layout.rope_order.size(), n_embd);
  for (std::size_t r = 0; r < rank; ++r) {
    std::ranges::copy(down.row(r).first(n_embd), out.kv_a.row(r).begin());
  }
  std::vector<std::uint32_t> next(components.size());
  for (std::size_t i = 0; i < layout.rope_order.size(); ++i) {
    const std::uint32_t pair = layout.rope_order[i];
    const std::size_t j = next[pair]++;
    std::ranges::copy(components[pair].re.row(j).first(n_embd), out.kv_a.row(rank + 2 * i).begin());
    std::ranges::copy(components[pair].im.row(j).first(n_embd),
                      out.kv_a.row(rank + 2 * i + 1).begin());
  }
  out.kv_b = Matrix(config.n_heads * block, rank);
  for (std::size_t h = 0; h < config.n_heads; ++h) {
    const std::size_t g = h / share;
    const Matrix up_k =
        multiply_transposed(stack.k_back[g], columns_of(directions, g * block, nope));
    const Matrix up_v =
        multiply_transposed(stack.v_back[g], columns_of(directions, g * block + nope, d));
    const auto at = out.kv_b.values.begin() + static_cast<std::ptrdiff_t>(h * block * rank);
    std::ranges::copy(up_k.values, at);
    std::ranges::copy(up_v.values, at + static_cast<std::ptrdiff_t>(nope * rank));
  }
  return out;
}

}  // namespace larder
