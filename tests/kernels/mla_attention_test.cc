#include "kernels/mla_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "kernels/reference/mla_attention.h"
#include "kernels/transpose_heads.h"
#include "tensor/quantize.h"

namespace larder {
namespace {

std::vector<float> normals(std::size_t n, float deviation, std::mt19937& rng) {
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> x(n);
  for (float& f : x) f = normal(rng);
  return x;
}

/// Sequences with their rows in a paged cache of random block order; bytes that no row was written
/// to are all ones: NaN in every format.
struct Case {
  LatentShape shape;
  KvLayout layout;
  std::vector<float> k_floats, v_floats;
  std::vector<LinearWeight> k_up, v_up;
  TransposedHeads k_absorb;
  std::vector<std::uint32_t> lengths;
  std::vector<std::vector<float>> q,
      rows;  // per sequence [length, n_heads, key_dim], [.., row_dim]
  Buffer<std::byte> pool;
  std::vector<std::vector<BlockId>> tables;

  LatentHeads heads() const { return {k_up, v_up, k_absorb.heads}; }
};

struct Dims {
  std::uint32_t n_heads, kv_rank, nope, rope, v, block_tokens;
};

void make_heads(Case& c, std::mt19937& rng) {
  const LatentShape& s = c.shape;
  const float deviation = 1.0F / std::sqrt(static_cast<float>(s.kv_rank));
  c.k_floats = normals(std::size_t{s.n_heads} * s.nope_dim * s.kv_rank, deviation, rng);
  c.v_floats = normals(std::size_t{s.n_heads} * s.v_dim * s.kv_rank, deviation, rng);
  for (std::uint32_t h = 0; h < s.n_heads; ++h) {
    const auto at = [&](const std::vector<float>& all, std::uint32_t n) {
      return reinterpret_cast<const std::byte*>(all.data() + std::size_t{h} * n * s.kv_rank);
    };
    c.k_up.push_back({DType::f32, s.nope_dim, s.kv_rank, at(c.k_floats, s.nope_dim), nullptr});
    c.v_up.push_back({DType::f32, s.v_dim, s.kv_rank, at(c.v_floats, s.v_dim), nullptr});
  }
  c.k_absorb = transpose_heads(c.k_up);
}

void make_pool(Case& c, std::mt19937& rng) {
  const BlockShape block{c.shape.block_tokens, c.shape.row_dim()};
  const std::size_t bytes =
      (c.layout.v->v_bytes(block) + kBlockQuantum - 1) / kBlockQuantum * kBlockQuantum;
  std::vector<std::uint32_t> ids;
  for (const std::uint32_t length : c.lengths) {
    auto& table = c.tables.emplace_back((length + block.block_tokens - 1) / block.block_tokens);
    for (std::size_t i = 0; i < table.size(); ++i) {
      ids.push_back(static_cast<std::uint32_t>(ids.size()));
    }
  }
  std::shuffle(ids.begin(), ids.end(), rng);
  c.pool = Buffer<std::byte>(ids.size() * bytes);
  std::memset(c.pool.data(), 0xff, c.pool.size());
  c.layout.pool = c.pool.data();
  std::size_t next = 0;
  for (auto& table : c.tables) {
    for (BlockId& id : table) {
      id = BlockId{static_cast<std::uint32_t>(ids[next++] * bytes / kBlockQuantum)};
    }
  }
}

Case make_case(const Dims& d, KvFormat format, std::vector<std::uint32_t> lengths,
               std::mt19937& rng) {
  Case c;
  c.shape = {d.n_heads,
             d.kv_rank,
             d.nope,
             d.rope,
             d.v,
             d.block_tokens,
             1.0F / std::sqrt(static_cast<float>(d.nope + d.rope))};
  c.layout.v = &kv_codec(format);
  c.lengths = std::move(lengths);
  make_heads(c, rng);
  make_pool(c, rng);
  for (const std::uint32_t length : c.lengths) {
    c.q.push_back(normals(std::size_t{length} * d.n_heads * c.shape.key_dim(), 1, rng));
    c.rows.push_back(normals(std::size_t{length} * c.shape.row_dim(), 1, rng));
  }
  return c;
}

using Form = void (*)(const Compute&, const LatentCall&, LatentScratch&);

/// Every sequence in chunks of random size, in random company; what came out per sequence.
std::vector<std::vector<float>> run(const Case& c, const Compute& compute, std::uint32_t max_chunk,
                                    const Form form, std::mt19937& rng) {
  const LatentShape& s = c.shape;
  const std::uint32_t total = std::accumulate(c.lengths.begin(), c.lengths.end(), 0U);
  LatentScratch scratch(s, compute.pool.n_threads(), total);
  std::vector<std::uint32_t> past(c.lengths.size(), 0);
  std::vector<std::vector<float>> out(c.lengths.size());
  while (past != c.lengths) {
    std::vector<LatentItem> items;
    std::vector<std::size_t> owners;
    std::vector<float> q, rows;
    std::uint32_t n_rows = 0;
    for (std::size_t i = 0; i < c.lengths.size(); ++i) {
      if (past[i] == c.lengths[i] || rng() % 4 == 0) continue;
      const auto n = std::min<std::uint32_t>(c.lengths[i] - past[i],
                                             1 + static_cast<std::uint32_t>(rng() % max_chunk));
      items.push_back({n_rows, n, past[i], {c.tables[i], 0}});
      owners.push_back(i);
      const auto slice = [&](std::vector<float>& to, const std::vector<float>& from,
                             std::size_t width) {
        to.insert(to.end(), from.begin() + static_cast<std::ptrdiff_t>(past[i] * width),
                  from.begin() + static_cast<std::ptrdiff_t>((past[i] + n) * width));
      };
      slice(q, c.q[i], std::size_t{s.n_heads} * s.key_dim());
      slice(rows, c.rows[i], s.row_dim());
      n_rows += n;
      past[i] += n;
    }
    append_latent_rows(compute, s, c.layout, items, rows.data());
    std::vector<float> result(std::size_t{n_rows} * s.n_heads * s.v_dim);
    const LatentHeads heads = c.heads();
    form(compute, {s, c.layout, heads, items, q.data(), result.data()}, scratch);
    const std::size_t width = std::size_t{s.n_heads} * s.v_dim;
    for (std::size_t i = 0; i < items.size(); ++i) {
      const auto begin = result.begin() + static_cast<std::ptrdiff_t>(items[i].first_row * width);
      out[owners[i]].insert(out[owners[i]].end(), begin,
                            begin + static_cast<std::ptrdiff_t>(items[i].n_rows * width));
    }
  }
  return out;
}

void reference_form(const Compute&, const LatentCall& call, LatentScratch&) {
  reference::attend_latent(call);
}

void expect_close(const std::vector<std::vector<float>>& got,
                  const std::vector<std::vector<float>>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t s = 0; s < got.size(); ++s) {
    ASSERT_EQ(got[s].size(), expected[s].size());
    for (std::size_t i = 0; i < got[s].size(); ++i) {
      ASSERT_NEAR(got[s][i], expected[s][i], 2e-5) << "sequence " << s << " element " << i;
    }
  }
}

constexpr Dims kSmall{3, 14, 6, 4, 10, 16};
constexpr Dims kShapes[] = {
    kSmall, {1, 18, 8, 2, 5, 32}, {5, 32, 16, 8, 16, 16}, {40, 10, 4, 2, 6, 64}};
constexpr KvFormat kFormats[] = {KvFormat::f32, KvFormat::f16, KvFormat::bf16};

TEST(MlaAttention, BothFormsMatchTheFormulaOnEverySet) {
  std::mt19937 rng(1);
  ThreadPool pool(2);
  for (const simd::Table* table : simd::available()) {
    const Compute compute{*table, pool};
    for (const Dims& dims : kShapes) {
      for (const KvFormat format : kFormats) {
        SCOPED_TRACE(testing::Message() << table->name << " heads " << dims.n_heads << " format "
                                        << static_cast<int>(format));
        const Case c = make_case(dims, format, {70, 1, 33}, rng);
        const auto expected = run(c, compute, 100, reference_form, rng);
        expect_close(run(c, compute, 40, attend_plain, rng), expected);
        expect_close(run(c, compute, 40, attend_absorbed, rng), expected);
      }
    }
  }
}

TEST(MlaAttention, ContextsOfSeveralRunsMatchTheFormula) {
  std::mt19937 rng(2);
  ThreadPool pool(2);
  const Compute compute{simd::best(), pool};
  const Case c = make_case({2, 8, 4, 2, 4, 32}, KvFormat::bf16, {1100, 515}, rng);
  const auto expected = run(c, compute, 600, reference_form, rng);
  expect_close(run(c, compute, 300, attend_plain, rng), expected);
  expect_close(run(c, compute, 300, attend_absorbed, rng), expected);
}

TEST(MlaAttention, BitsDependOnTheSequenceAlone) {
  std::mt19937 rng(3);
  ThreadPool one(1), two(2);
  for (const simd::Table* table : simd::available()) {
    const Case c = make_case(kSmall, KvFormat::bf16, {600, 37, 530}, rng);
    for (const Form form : {attend_plain, attend_absorbed}) {
      const auto expected = run(c, {*table, one}, 600, form, rng);
      for (const std::uint32_t max_chunk : {7U, 64U, 300U}) {
        EXPECT_EQ(run(c, {*table, two}, max_chunk, form, rng), expected) << table->name;
      }
    }
  }
}

TEST(MlaAttention, FormsAgreeWithQuantisedMatrices) {
  // q8_0 for the way out of the latent, its transposed copy in f16 for the way in.
  std::mt19937 rng(4);
  ThreadPool pool(2);
  const Compute compute{simd::best(), pool};
  Case c = make_case({2, 64, 32, 8, 32, 16}, KvFormat::f32, {90}, rng);
  std::vector<std::vector<std::byte>> bytes;
  for (auto* heads : {&c.k_up, &c.v_up}) {
    for (LinearWeight& w : *heads) {
      auto& to = bytes.emplace_back(w.n_out * row_bytes(DType::q8_0, w.n_in));
      for (std::uint32_t r = 0; r < w.n_out; ++r) {
        const auto* row = reinterpret_cast<const float*>(w.data) + std::size_t{r} * w.n_in;
        encode_row(DType::q8_0, row, w.n_in, to.data() + r * row_bytes(DType::q8_0, w.n_in));
      }
      w.dtype = DType::q8_0;
      w.data = to.data();
    }
  }
  c.k_absorb = transpose_heads(c.k_up);
  EXPECT_EQ(c.k_absorb.heads.front().dtype, DType::f16);
  const auto plain = run(c, compute, 50, attend_plain, rng);
  const auto absorbed = run(c, compute, 50, attend_absorbed, rng);
  double error = 0, size = 0;
  for (std::size_t i = 0; i < plain[0].size(); ++i) {
    error += std::pow(plain[0][i] - absorbed[0][i], 2);
    size += std::pow(plain[0][i], 2);
  }
  EXPECT_LT(std::sqrt(error / size), 0.02);  // int8 activations on one side of each product
}

}  // namespace
}  // namespace larder
