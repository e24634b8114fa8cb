#include "model/surgery/pool_heads.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <utility>

#include "base/check.h"

namespace larder {
namespace {

using Complex = std::complex<double>;

/// One group of source KV heads and the query heads that read them.
struct Group {
  std::size_t first;     // source KV head
  std::size_t n;         // source KV heads
  std::size_t per_head;  // query heads of one source KV head
  std::size_t head_dim;
};

/// dst row = sum over the group of weight[g] * source row `channel` of head first + g.
void average_rows(const Matrix& heads, const Group& group, std::size_t dst_head, Matrix& out) {
  const double share = 1.0 / static_cast<double>(group.n);
  for (std::size_t g = 0; g < group.n; ++g) {
    for (std::size_t i = 0; i < group.head_dim; ++i) {
      const auto from = heads.row((group.first + g) * group.head_dim + i);
      const auto to = out.row(dst_head * group.head_dim + i);
      for (std::size_t c = 0; c < to.size(); ++c) to[c] += share * from[c];
    }
  }
}

/// A rotary pair of each head of a group as complex rows re + i im. [n, n_embd + 1]
struct PairRows {
  Matrix re, im;
};

PairRows pair_rows(const Matrix& heads, const Group& group,
                   std::pair<std::uint32_t, std::uint32_t> channels) {
  PairRows rows{Matrix(group.n, heads.cols), Matrix(group.n, heads.cols)};
  for (std::size_t g = 0; g < group.n; ++g) {
    const std::size_t head = (group.first + g) * group.head_dim;
    std::ranges::copy(heads.row(head + channels.first), rows.re.row(g).begin());
    std::ranges::copy(heads.row(head + channels.second), rows.im.row(g).begin());
  }
  return rows;
}

/// Energy that the queries of each source KV head of the group bring to the pair: sum of E|q|^2.
std::vector<double> query_energy(const Matrix& q, const Group& group,
                                 std::pair<std::uint32_t, std::uint32_t> channels,
                                 const InputMoment& moment) {
  std::vector<double> energy(group.n);
  for (std::size_t g = 0; g < group.n; ++g) {
    for (std::size_t h = 0; h < group.per_head; ++h) {
      const std::size_t head = ((group.first + g) * group.per_head + h) * group.head_dim;
      for (const std::size_t channel : {channels.first, channels.second}) {
        const Matrix row = rows_of(q, head + channel, 1);
        energy[g] += moment_product(row, moment, row)(0, 0);
      }
    }
  }
  const double floor = 1e-9 * *std::max_element(energy.begin(), energy.end());
  for (double& e : energy) e = e > floor ? e : std::max(floor, 1e-30);
  return energy;
}

/// What each head's pair is, as a multiple of the common one, and how the common one is summed up:
/// z_g = factor_g m with m = sum_g weight_g z_g.
struct Alignment {
  std::vector<Complex> factor, weight;
};

Alignment best_rank_one(const PairRows& z, const std::vector<double>& energy,
                        const InputMoment& moment) {
  const std::size_t n = energy.size();
  const Matrix rr = moment_product(z.re, moment, z.re), ii = moment_product(z.im, moment, z.im);
  const Matrix ri = moment_product(z.re, moment, z.im);
  Matrix gram_re(n, n), gram_im(n, n);  // sqrt(e_a e_b) E[z_a conj(z_b)]
  for (std::size_t a = 0; a < n; ++a) {
    for (std::size_t b = 0; b < n; ++b) {
      const double scale = std::sqrt(energy[a] * energy[b]);
      gram_re(a, b) = scale * (rr(a, b) + ii(a, b));
      gram_im(a, b) = scale * (ri(b, a) - ri(a, b));
    }
  }
  const HermitianEigen eigen = eigen_hermitian(gram_re, gram_im);
  Alignment out{std::vector<Complex>(n), std::vector<Complex>(n)};
  double squares = 0;
  for (std::size_t g = 0; g < n; ++g) {
    const Complex u(eigen.re(0, g), eigen.im(0, g));
    out.factor[g] = u / std::sqrt(energy[g]);
    out.weight[g] = std::conj(u) * std::sqrt(energy[g]);
    squares += std::norm(out.factor[g]);
  }
  // The common key is as large as the heads' are, and the first head's phase stays.
  const double size = std::sqrt(squares / static_cast<double>(n));
  const double first = std::abs(out.factor[0]);
  const Complex unit = (first > 1e-12 * size ? out.factor[0] / first : Complex(1)) * size;
  for (std::size_t g = 0; g < n; ++g) {
    out.factor[g] /= unit;
    out.weight[g] *= unit;
  }
  return out;
}

/// Norms on heads leave signs as the only maps that commute with them: the mean of the heads, each
/// turned by half a circle where that agrees better with what most of them share.
Alignment best_signs(const PairRows& z, const InputMoment& moment) {
  const std::size_t n = z.re.rows;
  Matrix agreement = moment_product(z.re, moment, z.re);
  const Matrix ii = moment_product(z.im, moment, z.im);
  for (std::size_t i = 0; i < ii.values.size(); ++i) agreement.values[i] += ii.values[i];
  const SymmetricEigen eigen = eigen_symmetric(agreement);
  Alignment out;
  for (std::size_t g = 0; g < n; ++g) {
    const bool turned = (eigen.vectors(0, g) < 0) != (eigen.vectors(0, 0) < 0);
    const double sign = turned ? -1 : 1;
    out.factor.emplace_back(sign);
    out.weight.emplace_back(sign / static_cast<double>(n));
  }
  return out;
}

/// Writes m into k and turns the queries by the conjugate factors: q . (factor m) = (conj(factor)
/// q) . m.
void apply_alignment(const PairRows& z, const Alignment& alignment, const Group& group,
                     std::size_t dst_head, std::pair<std::uint32_t, std::uint32_t> channels,
                     AttentionLayer& out) {
  const auto k_re = out.k.row(dst_head * group.head_dim + channels.first);
  const auto k_im = out.k.row(dst_head * group.head_dim + channels.second);
  for (std::size_t g = 0; g < group.n; ++g) {
    const Complex w = alignment.weight[g];
    const auto re = z.re.row(g), im = z.im.row(g);
    for (std::size_t c = 0; c < re.size(); ++c) {
      k_re[c] += w.real() * re[c] - w.imag() * im[c];
      k_im[c] += w.real() * im[c] + w.imag() * re[c];
    }
    const Complex f = std::conj(alignment.factor[g]);
    for (std::size_t h = 0; h < group.per_head; ++h) {
      const std::size_t head = ((group.first + g) * group.per_head + h) * group.head_dim;
      const auto q_re = out.q.row(head + channels.first), q_im = out.q.row(head + channels.second);
      for (std::size_t c = 0; c < q_re.size(); ++c) {
        const Complex q = f * Complex(q_re[c], q_im[c]);
        q_re[c] = q.real();
        q_im[c] = q.imag();
      }
    }
  }
}

/// Columns of o that read query head `head`.
Matrix output_columns(const Matrix& o, std::size_t head, std::size_t head_dim) {
  return columns_of(o, head * head_dim, head_dim);
}

/// One head of values for the group: the head_dim directions that carry most of what its heads add
/// to the output; o is changed to read them.
void pool_values(const AttentionLayer& layer, const Group& group, std::size_t dst_head,
                 const InputMoment& moment, AttentionLayer& out) {
  const std::size_t d = group.head_dim;
  Matrix stack(group.n * d, layer.v.cols);  // root(o^T o) v of each head
  std::vector<RootPair> roots;
  double size = 0;
  for (std::size_t g = 0; g < group.n; ++g) {
    Matrix reads(d, d);
    for (std::size_t h = 0; h < group.per_head; ++h) {
      const Matrix o =
          transposed(output_columns(layer.o, (group.first + g) * group.per_head + h, d));
      const Matrix gram = multiply_transposed(o, o);
      for (std::size_t i = 0; i < gram.values.size(); ++i) reads.values[i] += gram.values[i];
    }
    roots.push_back(symmetric_root(reads));
    const Matrix v = rows_of(layer.v, (group.first + g) * d, d);
    const Matrix weighted = multiply(roots.back().root, v);
    std::ranges::copy(weighted.values,
                      stack.values.begin() + static_cast<std::ptrdiff_t>(g * d * stack.cols));
    for (const double x : v.values) size += x * x;
  }
  const Matrix directions =
      rows_of(eigen_symmetric(moment_product(stack, moment, stack)).vectors, 0, d);  // [d, n d]
  Matrix pooled = multiply(directions, stack);
  double pooled_size = 0;
  for (const double x : pooled.values) pooled_size += x * x;
  // As large as the heads are on average, so that types and training find usual magnitudes.
  const double scale =
      pooled_size > 0 ? std::sqrt(size / static_cast<double>(group.n) / pooled_size) : 1;
  for (double& x : pooled.values) x *= scale;
  std::ranges::copy(pooled.values, out.v.row(dst_head * d).begin());
  for (std::size_t g = 0; g < group.n; ++g) {
    // v_g = inverse-root_g directions_g^T pooled / scale
    const Matrix back =
        multiply(roots[g].inverse, transposed(columns_of(directions, g * d, d)));  // [d, d]
    for (std::size_t h = 0; h < group.per_head; ++h) {
      const std::size_t head = (group.first + g) * group.per_head + h;
      const Matrix o = multiply(output_columns(layer.o, head, d), back);
      for (std::size_t r = 0; r < o.rows; ++r) {
        for (std::size_t c = 0; c < d; ++c) out.o(r, head * d + c) = o(r, c) / scale;
      }
    }
  }
}

}  // namespace

AttentionLayer pool_heads(const AttentionLayer& layer, const ModelConfig& config,
                          const PoolHeads& to, const InputMoment& moment) {
  LARDER_CHECK(to.n_kv_heads > 0 && config.n_kv_heads % to.n_kv_heads == 0);
  const std::size_t d = config.head_dim;
  AttentionLayer out = layer;
  out.k = Matrix(to.n_kv_heads * d, layer.k.cols);
  out.v = Matrix(to.n_kv_heads * d, layer.v.cols);
  const std::size_t n = config.n_kv_heads / to.n_kv_heads;
  for (std::size_t head = 0; head < to.n_kv_heads; ++head) {
    const Group group{head * n, n, config.n_heads / config.n_kv_heads, d};
    if (!to.align) {
      average_rows(layer.k, group, head, out.k);
      average_rows(layer.v, group, head, out.v);
      continue;
    }
    for (std::uint32_t pair = 0; pair < d / 2; ++pair) {
      const auto channels = rope_pair(config, pair);
      const PairRows z = pair_rows(layer.k, group, channels);
      const Alignment alignment =
          config.qk_norm ? best_signs(z, moment)
                         : best_rank_one(z, query_energy(layer.q, group, channels, moment), moment);
      apply_alignment(z, alignment, group, head, channels, out);
    }
    pool_values(layer, group, head, moment, out);
  }
  return out;
}

}  // namespace larder
