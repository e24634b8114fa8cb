#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "model/scratch_dir.h"
#include "model/small_random_model.h"
#include "model/weights.h"
#include "tensor/packed.h"
#include "tensor/quantize.h"

namespace larder {
namespace {

struct Case {
  const char* name;
  DType type;
  bool has_experts;
};

class WeightsPack : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const std::string path = dir_.path("tiny.gguf");
    const auto config = GetParam().has_experts ? small_experts_config() : small_dense_config();
    ASSERT_TRUE(write_random_model(config, GetParam().type, path));
    auto source = open_model(path);
    ASSERT_TRUE(source);
    source_ = std::move(*source);
  }

  /// All that a pass over the weights would see of a matrix.
  static std::vector<float> values(const LinearWeight& w) {
    std::vector<float> all(std::size_t{w.n_out} * w.n_in);
    for (std::size_t r = 0; r < w.n_out; ++r) {
      float* out = all.data() + r * w.n_in;
      if (w.is_packed) {
        decode_packed_row(w.dtype, w.data, r, w.n_in, out);
      } else {
        decode_row(w.dtype, w.data + r * row_bytes(w.dtype, w.n_in), w.n_in, out);
      }
    }
    return all;
  }
  static std::vector<const LinearWeight*> matrices(const Weights& weights) {
    std::vector<const LinearWeight*> all;
    for (std::size_t i = 0; i < weights.config().n_layers; ++i) {
      const LayerWeights& w = weights.layer(i);
      for (const LinearWeight* m :
           {&w.q, &w.k, &w.v, &w.latent.kv_a, &w.o, &w.gate, &w.up, &w.down, &w.experts.shared_gate,
            &w.experts.shared_up, &w.experts.shared_down}) {
        if (m->n_out != 0) all.push_back(m);
      }
      for (const LinearWeight& m : w.experts.gate) all.push_back(&m);
      for (const LinearWeight& m : w.experts.up) all.push_back(&m);
      for (const LinearWeight& m : w.experts.down) all.push_back(&m);
    }
    all.push_back(&weights.output());
    return all;
  }
  static std::size_t n_packed(const Weights& weights) {
    std::size_t n = 0;
    for (const LinearWeight* w : matrices(weights)) n += w->is_packed ? 1 : 0;
    return n;
  }

  ScratchDir dir_;
  std::unique_ptr<ModelSource> source_;
  ThreadPool pool_{2};
};

TEST_P(WeightsPack, WhileLoading) {
  const auto in_file = Weights::load(*source_);
  const auto packed = Weights::load(*source_, {&pool_, false, {}});
  ASSERT_TRUE(in_file && packed);
  EXPECT_EQ(n_packed(*in_file), 0U);
  const bool can = can_pack(GetParam().type);
  EXPECT_EQ(n_packed(*packed), can ? matrices(*packed).size() : 0U);
  for (std::size_t i = 0; i < matrices(*packed).size(); ++i) {
    EXPECT_EQ(values(*matrices(*packed)[i]), values(*matrices(*in_file)[i])) << i;
  }
  std::vector<float> a(packed->config().n_embd), b(a.size());
  for (const std::size_t token : {0U, 31U, 500U}) {
    in_file->embed(token, a.data());
    packed->embed(token, b.data());
    EXPECT_EQ(a, b);
  }
}

TEST_P(WeightsPack, PieceByPieceLater) {
  const auto in_file = Weights::load(*source_);
  auto weights = Weights::load(*source_, {&pool_, true, {}});
  ASSERT_TRUE(in_file && weights);
  const std::size_t n_all = matrices(*weights).size(), n_first = n_packed(*weights);
  EXPECT_EQ(n_first, GetParam().type == DType::bf16 ? n_all : 0U);
  std::size_t n_calls = 0;
  while (weights->pack_some(pool_, 1)) ++n_calls;
  const bool waited = can_pack(GetParam().type) && GetParam().type != DType::bf16;
  EXPECT_EQ(n_calls, waited ? n_all - 1 : 0U);
  EXPECT_EQ(n_packed(*weights), can_pack(GetParam().type) ? n_all : 0U);
  EXPECT_FALSE(weights->pack_some(pool_, 1 << 30));
  for (std::size_t i = 0; i < n_all; ++i) {
    EXPECT_EQ(values(*matrices(*weights)[i]), values(*matrices(*in_file)[i])) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, WeightsPack,
                         testing::Values(Case{"q8_0", DType::q8_0, false},
                                         Case{"q4_0", DType::q4_0, false},
                                         Case{"bf16", DType::bf16, false},
                                         Case{"f16", DType::f16, false},
                                         Case{"experts_q8_0", DType::q8_0, true},
                                         Case{"experts_bf16", DType::bf16, true}),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace larder
