#include "kernels/linear.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/reference/linear.h"
#include "tensor/packed.h"
#include "tensor/quantize.h"

namespace larder {
namespace {

constexpr DType kAllTypes[] = {DType::f32,  DType::f16,  DType::bf16, DType::q8_0,
                               DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1,
                               DType::q4_k, DType::q5_k, DType::q6_k};

std::vector<float> random_floats(std::mt19937& rng, std::size_t n) {
  std::normal_distribution<float> normal;
  std::vector<float> v(n);
  for (float& f : v) f = normal(rng);
  return v;
}

struct Layer {
  std::vector<std::byte> bytes;
  std::vector<float> bias;
  LinearWeight weight;

  Layer(std::mt19937& rng, DType dtype, std::uint32_t n_out, std::uint32_t n_in, bool has_bias)
      : bytes(n_out * row_bytes(dtype, n_in)), bias(random_floats(rng, n_out)) {
    // Encoding is slow: thirteen different rows, a number that no tile or task size divides.
    const std::size_t stride = row_bytes(dtype, n_in);
    for (std::uint32_t r = 0; r < n_out; ++r) {
      std::byte* row = bytes.data() + r * stride;
      if (r < 13) {
        encode_row(dtype, random_floats(rng, n_in).data(), n_in, row);
      } else {
        std::memcpy(row, row - 13 * stride, stride);
      }
    }
    weight = {dtype, n_out, n_in, bytes.data(), has_bias ? bias.data() : nullptr};
  }
};

/// The same layer in panels.
struct PackedLayer {
  Buffer<std::byte> panels;
  LinearWeight weight;

  explicit PackedLayer(const LinearWeight& w)
      : panels(packed_bytes(w.dtype, w.n_out, w.n_in)), weight(w) {
    ThreadPool pool(2);
    pack_linear(pool, w, panels.data());
    weight.data = panels.data();
    weight.is_packed = true;
  }
};

constexpr DType kPackedTypes[] = {DType::q8_0, DType::q4_0, DType::bf16};

std::vector<float> run(const simd::Table& table, unsigned n_threads, const LinearWeight& w,
                       const std::vector<float>& x, std::size_t ld_out) {
  ThreadPool pool(n_threads);
  const std::size_t n_x = x.size() / w.n_in;
  LinearInput input(n_x, w.n_in);
  std::vector<float> out(n_x * ld_out, -7.0F);
  input.set(x.data(), n_x, w.n_in);
  linear({table, pool}, w, input, out, ld_out);
  return out;
}

class KernelLinear : public testing::TestWithParam<const simd::Table*> {};

TEST_P(KernelLinear, AgreesWithTheReference) {
  std::mt19937 rng(1);
  for (const DType dtype : kAllTypes) {
    const bool int8 = dtype_info(dtype).block_elems > 1;
    const std::uint32_t n_in = int8 ? 768 : 331;
    for (const std::uint32_t n_out : {1U, 33U, 301U}) {
      const Layer layer(rng, dtype, n_out, n_in, n_out != 33);
      const auto x = random_floats(rng, std::size_t{11} * n_in);
      const std::size_t ld_out = n_out + 5;
      const auto out = run(*GetParam(), 2, layer.weight, x, ld_out);
      std::vector<float> expected(11 * ld_out, -7.0F);
      reference::linear(layer.weight, x.data(), 11, expected.data(), ld_out);
      // Int8 activations err by up to half a step of 1/127 of the largest of 32, in random
      // directions; f32 ones by rounding alone.
      const double tolerance = (int8 ? 0.05 : 2e-6) * std::sqrt(n_in);
      for (std::size_t i = 0; i < out.size(); ++i) {
        ASSERT_NEAR(out[i], expected[i], tolerance) << dtype_info(dtype).name << " " << i;
      }
    }
  }
}

TEST_P(KernelLinear, ThreadsAndCompanyChangeNothing) {
  std::mt19937 rng(2);
  for (const DType dtype : kAllTypes) {
    const std::uint32_t n_in = 512, n_out = 203;
    const Layer layer(rng, dtype, n_out, n_in, true);
    const auto x = random_floats(rng, std::size_t{19} * n_in);
    const auto whole = run(*GetParam(), 1, layer.weight, x, n_out);
    EXPECT_EQ(whole, run(*GetParam(), 3, layer.weight, x, n_out)) << dtype_info(dtype).name;
    for (std::size_t t = 0; t < 19; t += 6) {
      const auto at = x.begin() + static_cast<std::ptrdiff_t>(t * n_in);
      const auto alone = run(*GetParam(), 2, layer.weight, {at, at + n_in}, n_out);
      const auto row = whole.begin() + static_cast<std::ptrdiff_t>(t * n_out);
      EXPECT_EQ(alone, std::vector<float>(row, row + n_out)) << dtype_info(dtype).name << " " << t;
    }
  }
}

TEST_P(KernelLinear, OneInputServesManyLayersAndSteps) {
  std::mt19937 rng(3);
  ThreadPool pool(2);
  const Compute compute{*GetParam(), pool};
  LinearInput input(6, 256);
  const Layer a(rng, DType::q4_k, 40, 256, false), b(rng, DType::f16, 24, 256, false);
  const Layer narrow(rng, DType::q8_0, 8, 96, false);
  for (const std::size_t n_x : {6U, 1U, 4U}) {
    const auto x = random_floats(rng, n_x * 256), y = random_floats(rng, n_x * 96);
    std::vector<float> out_a(n_x * 40), out_b(n_x * 24), out_narrow(n_x * 8);
    input.set(x.data(), n_x, 256);
    linear(compute, b.weight, input, out_b, 24);
    linear(compute, a.weight, input, out_a, 40);
    input.set(y.data(), n_x, 96);
    linear(compute, narrow.weight, input, out_narrow, 8);
    EXPECT_EQ(out_a, run(*GetParam(), 1, a.weight, x, 40));
    EXPECT_EQ(out_b, run(*GetParam(), 1, b.weight, x, 24));
    EXPECT_EQ(out_narrow, run(*GetParam(), 1, narrow.weight, y, 8));
  }
}

TEST_P(KernelLinear, PanelsAgreeWithTheReference) {
  std::mt19937 rng(4);
  for (const DType dtype : kPackedTypes) {
    const bool int8 = dtype != DType::bf16;
    for (const std::uint32_t n_out : {1U, 33U, 301U}) {
      const std::size_t n_x = n_out == 33 ? 70 : 11;  // for matrix units, too
      const std::uint32_t n_in = int8 ? 768 : 331;
      const Layer layer(rng, dtype, n_out, n_in, n_out != 33);
      const PackedLayer packed(layer.weight);
      const auto x = random_floats(rng, n_x * n_in);
      const std::size_t ld_out = n_out + 5;
      const auto out = run(*GetParam(), 2, packed.weight, x, ld_out);
      std::vector<float> expected(n_x * ld_out, -7.0F);
      reference::linear(layer.weight, x.data(), n_x, expected.data(), ld_out);
      // bf16 activations err by up to 1/512 of themselves, in random directions.
      const double tolerance = (int8 ? 0.05 : 0.01) * std::sqrt(n_in);
      for (std::size_t i = 0; i < out.size(); ++i) {
        ASSERT_NEAR(out[i], expected[i], tolerance) << dtype_info(dtype).name << " " << i;
      }
      if (int8) {
        EXPECT_EQ(out, run(*GetParam(), 1, layer.weight, x, ld_out));
      }
    }
  }
}

TEST_P(KernelLinear, ThreadsAndCompanyChangeNothingInPanels) {
  std::mt19937 rng(5);
  // Enough rows of x, columns and panels for every way through the loop: streams of two panels,
  // from memory as AMX sees it, one left over and a cut one, chunks, long chunks.
  constexpr std::uint32_t kIn = 4256, kOut = 290;
  constexpr std::size_t kX = 50;
  for (const DType dtype : kPackedTypes) {
    const Layer layer(rng, dtype, kOut, kIn, true);
    const PackedLayer packed(layer.weight);
    const auto x = random_floats(rng, kX * kIn);
    const auto whole = run(*GetParam(), 2, packed.weight, x, kOut);
    for (const std::size_t n : {1U, 3U, 15U}) {
      for (std::size_t t = n; t + n <= kX; t += 19) {
        const auto at = x.begin() + static_cast<std::ptrdiff_t>(t * kIn);
        const std::vector<float> some(at, at + static_cast<std::ptrdiff_t>(n * kIn));
        const auto row = whole.begin() + static_cast<std::ptrdiff_t>(t * kOut);
        EXPECT_EQ(run(*GetParam(), n == 3 ? 3 : 1, packed.weight, some, kOut),
                  std::vector<float>(row, row + static_cast<std::ptrdiff_t>(n * kOut)))
            << dtype_info(dtype).name << " " << t;
      }
    }
  }
}

TEST_P(KernelLinear, ManyRowsGiveWhatEachGivesAlone) {
  std::mt19937 rng(7);
  // Tiles of any height, one and several of them, blocks of 512 rows and more; columns in one chunk
  // and several, even and uneven.
  std::vector<std::size_t> many{96, 128, 509, 515, 1027};
  for (std::size_t n = 1; n <= 70; ++n) many.push_back(n);
  for (const DType dtype : kPackedTypes) {
    for (const std::size_t n_x : many) {
      const bool int8 = dtype != DType::bf16;
      const std::size_t n_blocks = n_x > 70 ? 9 : 1 + rng() % 40;
      const auto n_in = static_cast<std::uint32_t>(32 * n_blocks - (int8 ? 0 : rng() % 32));
      const auto n_out = static_cast<std::uint32_t>(1 + rng() % 150);
      const Layer layer(rng, dtype, n_out, n_in, n_x % 2 == 0);
      const PackedLayer packed(layer.weight);
      auto x = random_floats(rng, n_x * n_in);
      const std::size_t bad = rng() % n_x, ld_out = n_out + rng() % 5;
      for (std::size_t i = 0; i < n_in; i += 7) x[bad * n_in + i] = INFINITY;
      const auto n_threads = static_cast<unsigned>(1 + n_x % 3);
      const auto out = run(*GetParam(), n_threads, packed.weight, x, ld_out);
      const auto rows = int8 ? run(*GetParam(), 1, layer.weight, x, ld_out) : std::vector<float>();
      for (std::size_t t = 0; t < n_x; ++t) {
        const auto at = x.begin() + static_cast<std::ptrdiff_t>(t * n_in);
        const auto alone = int8 ? std::vector<float>()
                                : run(*GetParam(), 1, packed.weight, {at, at + n_in}, ld_out);
        const float* expected = int8 ? rows.data() + t * ld_out : alone.data();
        for (std::size_t r = 0; r < ld_out; ++r) {
          const float value = out[t * ld_out + r];
          if (t == bad && r < n_out) {
            ASSERT_FALSE(std::isfinite(value));
          } else {
            ASSERT_EQ(value, expected[r]) << dtype_info(dtype).name << " rows " << n_x << " of "
                                          << n_in << " at " << t << ", " << r;
          }
        }
        if (!int8 && n_x > 70) t += 31;
      }
    }
  }
}

TEST_P(KernelLinear, LayersOverOneInputInOneGo) {
  std::mt19937 rng(6);
  for (const unsigned n_threads : {1U, 2U, 3U}) {
    ThreadPool pool(n_threads);
    const Layer a(rng, DType::q8_0, 70, 256, true), b(rng, DType::q6_k, 31, 256, true);
    const Layer c(rng, DType::bf16, 129, 256, false);
    const PackedLayer packed_a(a.weight), packed_c(c.weight);
    for (const std::size_t n_x : {1U, 9U, 40U}) {
      const auto x = random_floats(rng, n_x * 256);
      std::vector<float> out_a(n_x * 70), out_b(n_x * 40, 3.0F), out_c(n_x * 129);
      LinearInput input(n_x, 256);
      input.set(x.data(), n_x, 256);
      const LinearJob jobs[] = {{&packed_a.weight, out_a.data(), 70},
                                {&b.weight, out_b.data(), 40},
                                {&packed_c.weight, out_c.data(), 129}};
      linear({*GetParam(), pool}, jobs, input);
      EXPECT_EQ(out_a, run(*GetParam(), 1, packed_a.weight, x, 70));
      for (std::size_t t = 0; t < n_x; ++t) EXPECT_EQ(out_b[t * 40 + 31], 3.0F);
      auto alone = run(*GetParam(), 1, b.weight, x, 40);
      for (float& f : alone) f = f == -7.0F ? 3.0F : f;
      EXPECT_EQ(out_b, alone);
      EXPECT_EQ(out_c, run(*GetParam(), 1, packed_c.weight, x, 129));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Sets, KernelLinear,
                         testing::ValuesIn(simd::available().begin(), simd::available().end()),
                         [](const auto& set) { return std::string(set.param->name); });

TEST(CheckLinear, RefusesPartialBlocksAndEmptyTensors) {
  EXPECT_TRUE(check_linear({DType::q4_k, 3, 512, nullptr, nullptr}, "w"));
  EXPECT_TRUE(check_linear({DType::bf16, 3, 7, nullptr, nullptr}, "w"));
  const auto partial = check_linear({DType::q4_k, 3, 288, nullptr, nullptr}, "blk.0.ffn_up.weight");
  ASSERT_FALSE(partial);
  EXPECT_EQ(partial.error().code, Errc::corrupt);
  EXPECT_NE(partial.error().message.find("blk.0.ffn_up.weight"), std::string::npos);
  EXPECT_NE(partial.error().message.find("288"), std::string::npos);
  EXPECT_FALSE(check_linear({DType::q8_0, 3, 48, nullptr, nullptr}, "w"));
  EXPECT_FALSE(check_linear({DType::f32, 0, 32, nullptr, nullptr}, "w"));
  EXPECT_FALSE(check_linear({DType::f32, 32, 0, nullptr, nullptr}, "w"));
}

}  // namespace
}  // namespace larder
