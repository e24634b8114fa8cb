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
  std::vector<BlockId> open;  // of each sequence, where the layer seals

  LatentHeads heads() const { return {k_up, v_up, k_absorb.heads}; }
};

struct Formats {
  KvFormat k, v;  // of the rotated key, of the latent
  std::uint32_t raw_blocks = 0;
};
std::ostream& operator<<(std::ostream& out, const Formats& formats) {
  return out << kv_codec(formats.k).name << "/" << kv_codec(formats.v).name;
}

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
  const KvShape parts = c.shape.parts();
  // Open blocks stand among the others.
  const std::size_t bytes = std::max(kv_block_bytes(c.layout, parts), c.layout.open_bytes);
  std::vector<std::uint32_t> ids;
  for (const std::uint32_t length : c.lengths) {
    const std::uint32_t n = c.shape.block_tokens;
    for (std::uint32_t i = 0; i < (length + n - 1) / n + 1; ++i) {
      ids.push_back(static_cast<std::uint32_t>(ids.size()));
    }
  }
  std::shuffle(ids.begin(), ids.end(), rng);
  c.pool = Buffer<std::byte>(ids.size() * bytes);
  std::memset(c.pool.data(), 0xff, c.pool.size());
  c.layout.pool = c.pool.data();
  const auto take = [&] {
    const std::size_t id = ids.back();
    ids.pop_back();
    return BlockId{static_cast<std::uint32_t>(id * bytes / kBlockQuantum)};
  };
  for (const std::uint32_t length : c.lengths) {
    auto& table = c.tables.emplace_back();
    for (std::uint32_t row = 0; row < length; row += c.shape.block_tokens) table.push_back(take());
    c.open.push_back(take());
  }
}

Case make_case(const Dims& d, const Formats& formats, std::vector<std::uint32_t> lengths,
               std::mt19937& rng) {
  Case c;
  c.shape = {d.n_heads,
             d.kv_rank,
             d.nope,
             d.rope,
             d.v,
             d.block_tokens,
             1.0F / std::sqrt(static_cast<float>(d.nope + d.rope))};
  c.layout = make_kv_layout(kv_codec(formats.k), kv_codec(formats.v), c.shape.parts());
  c.layout.raw_blocks = formats.raw_blocks;
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

/// A step of a run: rows of some sequences.
class StepOf {
 public:
  explicit StepOf(const Case& c) : case_(c), layout_(c.layout) {
    rows_of_.reserve(c.lengths.size());
  }

  void add(std::size_t sequence, std::uint32_t n_past, std::uint32_t n) {
    const LatentShape& s = case_.shape;
    const std::uint32_t n_block = s.block_tokens, end = n_past + n;
    const std::size_t n_blocks = layout_.seals() ? end / n_block : (end + n_block - 1) / n_block;
    const std::span<const BlockId> table = case_.tables[sequence];
    rows_of_.push_back({table.first(n_blocks), 0, case_.open[sequence]});
    items_.push_back({n_rows_, n, n_past, {&rows_of_.back(), 1}, n_fresh_});
    n_fresh_ += n_fresh_blocks(items_.back(), n_block);
    owners_.push_back(sequence);
    const auto slice = [&](std::vector<float>& to, const std::vector<float>& from,
                           std::size_t width) {
      to.insert(to.end(), from.begin() + static_cast<std::ptrdiff_t>(n_past * width),
                from.begin() + static_cast<std::ptrdiff_t>(end * width));
    };
    slice(q_, case_.q[sequence], std::size_t{s.n_heads} * s.key_dim());
    slice(rows_, case_.rows[sequence], s.row_dim());
    n_rows_ += n;
  }

  /// Appends to `out` of each sequence.
  void run(const Compute& compute, Form form, LatentScratch& scratch,
           std::vector<std::vector<float>>& out) {
    const LatentShape& s = case_.shape;
    Buffer<std::byte> fresh(n_fresh_ * layout_.open_bytes);
    if (fresh.size() > 0) std::memset(fresh.data(), 0xff, fresh.size());
    layout_.fresh = fresh.data();
    append_latent_rows(compute, s, layout_, items_, rows_.data());
    std::vector<LatentItem> all;
    for (const AttentionItem& item : items_) all.push_back({item, 0, item.n_rows});
    std::vector<float> result(std::size_t{n_rows_} * s.n_heads * s.v_dim);
    const LatentHeads heads = case_.heads();
    form(compute, {s, layout_, heads, all, q_.data(), result.data()}, scratch);
    const std::size_t width = std::size_t{s.n_heads} * s.v_dim;
    for (std::size_t i = 0; i < items_.size(); ++i) {
      const auto begin = result.begin() + static_cast<std::ptrdiff_t>(items_[i].first_row * width);
      out[owners_[i]].insert(out[owners_[i]].end(), begin,
                             begin + static_cast<std::ptrdiff_t>(items_[i].n_rows * width));
    }
  }

 private:
  const Case& case_;
  KvLayout layout_;
  std::vector<KvRows> rows_of_;
  std::vector<AttentionItem> items_;
  std::vector<std::size_t> owners_;
  std::vector<float> q_, rows_;
  std::uint32_t n_rows_ = 0, n_fresh_ = 0;
};

/// Every sequence in chunks of random size, in random company; what came out per sequence.
std::vector<std::vector<float>> run(const Case& c, const Compute& compute, std::uint32_t max_chunk,
                                    const Form form, std::mt19937& rng) {
  const std::uint32_t total = std::accumulate(c.lengths.begin(), c.lengths.end(), 0U);
  LatentScratch scratch(c.shape, compute.pool.n_threads(), total);
  std::vector<std::uint32_t> past(c.lengths.size(), 0);
  std::vector<std::vector<float>> out(c.lengths.size());
  while (past != c.lengths) {
    StepOf step(c);
    for (std::size_t i = 0; i < c.lengths.size(); ++i) {
      if (past[i] == c.lengths[i] || rng() % 4 == 0) continue;
      const auto n = std::min<std::uint32_t>(c.lengths[i] - past[i],
                                             1 + static_cast<std::uint32_t>(rng() % max_chunk));
      step.add(i, past[i], n);
      past[i] += n;
    }
    step.run(compute, form, scratch, out);
  }
  return out;
}

void reference_form(const Compute&, const LatentCall& call, LatentScratch&) {
  reference::attend_latent(call);
}

void expect_close(const std::vector<std::vector<float>>& got,
                  const std::vector<std::vector<float>>& expected, float tolerance = 2e-5F) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t s = 0; s < got.size(); ++s) {
    ASSERT_EQ(got[s].size(), expected[s].size());
    for (std::size_t i = 0; i < got[s].size(); ++i) {
      ASSERT_NEAR(got[s][i], expected[s][i], tolerance) << "sequence " << s << " element " << i;
    }
  }
}

constexpr Dims kSmall{3, 14, 6, 4, 10, 16};
constexpr Dims kShapes[] = {
    kSmall, {1, 18, 8, 2, 5, 32}, {5, 32, 16, 8, 16, 16}, {40, 10, 4, 2, 6, 64}};
constexpr Formats kRaw[] = {{KvFormat::f32, KvFormat::f32},
                            {KvFormat::f16, KvFormat::f16},
                            {KvFormat::bf16, KvFormat::bf16},
                            {KvFormat::f32, KvFormat::bf16}};
/// Widths that every format can store, or most: rot3 wants keys of 32 channels.
constexpr Dims kCoded{3, 64, 6, 32, 10, 32}, kNarrow{2, 32, 8, 16, 6, 16};

TEST(MlaAttention, BothFormsMatchTheFormulaOnEverySet) {
  std::mt19937 rng(1);
  ThreadPool pool(2);
  for (const simd::Table* table : simd::available()) {
    const Compute compute{*table, pool};
    for (const Dims& dims : kShapes) {
      for (const Formats& formats : kRaw) {
        SCOPED_TRACE(testing::Message()
                     << table->name << " heads " << dims.n_heads << " formats " << formats);
        const Case c = make_case(dims, formats, {70, 1, 33}, rng);
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
  const Case c = make_case({2, 8, 4, 2, 4, 32}, kRaw[2], {1100, 515}, rng);
  const auto expected = run(c, compute, 600, reference_form, rng);
  expect_close(run(c, compute, 300, attend_plain, rng), expected);
  expect_close(run(c, compute, 300, attend_absorbed, rng), expected);
}

TEST(MlaAttention, BitsDependOnTheSequenceAlone) {
  std::mt19937 rng(3);
  ThreadPool one(1), two(2);
  for (const simd::Table* table : simd::available()) {
    const Case c = make_case(kSmall, kRaw[2], {600, 37, 530}, rng);
    for (const Form form : {attend_plain, attend_absorbed}) {
      const auto expected = run(c, {*table, one}, 600, form, rng);
      for (const std::uint32_t max_chunk : {7U, 64U, 300U}) {
        EXPECT_EQ(run(c, {*table, two}, max_chunk, form, rng), expected) << table->name;
      }
    }
  }
}

// Every format as that of the latent and as that of the key, in turns.
TEST(MlaAttention, SealedBlocksMatchTheFormulaInEveryFormat) {
  std::mt19937 rng(5);
  ThreadPool pool(2);
  std::vector<const KvCodec*> codecs;
  for (const KvCodec* codec : kv_codecs()) {
    if (codec->before_rope == nullptr) codecs.push_back(codec);  // a latent has none
  }
  for (const simd::Table* table : simd::available()) {
    const Compute compute{*table, pool};
    for (std::size_t i = 0; i < codecs.size(); ++i) {
      const KvCodec& other = *codecs[(i * 7 + 3) % codecs.size()];
      const Formats formats{other.format, codecs[i]->format, i % 4 == 0 ? 1U : 0U};
      SCOPED_TRACE(testing::Message() << table->name << " formats " << formats);
      const Case c = make_case(kCoded, formats, {100, 1, 33}, rng);
      const auto expected = run(c, compute, 130, reference_form, rng);
      // Those of ggml and KIVI are rounded to bf16 where they are multiplied.
      const auto rounded = [](const KvCodec& codec) {
        return (codec.decode_k != nullptr && codec.row_scales == nullptr) ||
               (codec.codes != nullptr && codec.codes->fit == simd::CodeFit::range);
      };
      const bool rounds = rounded(other) || rounded(*codecs[i]);
      const float tolerance = rounds ? 1e-2F : 2e-5F;
      expect_close(run(c, compute, 70, attend_plain, rng), expected, tolerance);
      expect_close(run(c, compute, 70, attend_absorbed, rng), expected, tolerance);
    }
  }
}

TEST(MlaAttention, SealedBitsDependOnTheSequenceAlone) {
  std::mt19937 rng(6);
  ThreadPool one(1), two(2);
  constexpr Formats kSealed[] = {{KvFormat::bf16, KvFormat::rot4},
                                 {KvFormat::int8, KvFormat::rot2, 2},
                                 {KvFormat::kivi4, KvFormat::kivi2},
                                 {KvFormat::kivi8, KvFormat::kivi8},
                                 {KvFormat::rot4, KvFormat::f16}};
  for (const simd::Table* table : simd::available()) {
    for (const Formats& formats : kSealed) {
      const Case c = make_case(kNarrow, formats, {530, 37}, rng);
      for (const Form form : {attend_plain, attend_absorbed}) {
        const auto expected = run(c, {*table, one}, 530, form, rng);
        for (const std::uint32_t max_chunk : {7U, 300U}) {
          ASSERT_EQ(run(c, {*table, two}, max_chunk, form, rng), expected)
              << table->name << " formats " << formats;
        }
      }
    }
  }
}

TEST(MlaAttention, FormsAgreeWithQuantisedMatrices) {
  // q8_0 for the way out of the latent, its transposed copy in f16 for the way in.
  std::mt19937 rng(4);
  ThreadPool pool(2);
  const Compute compute{simd::best(), pool};
  Case c = make_case({2, 64, 32, 8, 32, 16}, kRaw[0], {90}, rng);
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
