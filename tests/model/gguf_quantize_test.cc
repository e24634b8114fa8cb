#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "model/gguf_builder.h"
#include "model/io/gguf.h"
#include "model/io/quantize_file.h"
#include "tensor/quantize.h"

namespace larder {
namespace {

using testing::HasSubstr;

struct Entry {
  std::string name;
  std::vector<std::uint64_t> shape;
};

/// f32 tensors of Gaussian values; element 5 of tensor `changed` is `fifth`.
void write_model(const std::string& path, const std::vector<Entry>& entries, float fifth = 0.5F,
                 std::size_t changed = 0) {
  auto writer = GgufWriter::create(path);
  ASSERT_TRUE(writer);
  writer->put("general.architecture", GgufType::string, std::string("llama"));
  writer->put("general.file_type", GgufType::u32, std::uint64_t{0});
  writer->put("some.u16", GgufType::u16, std::uint64_t{3});
  writer->put_array("some.list", GgufType::i8, std::vector<std::int64_t>{-1, 2});
  for (const Entry& e : entries) writer->announce(e.name, DType::f32, e.shape);
  ASSERT_TRUE(writer->begin_data());
  std::mt19937 rng(4);
  std::normal_distribution<float> normal;
  for (std::size_t t = 0; t < entries.size(); ++t) {
    std::size_t n = 1;
    for (const auto dim : entries[t].shape) n *= dim;
    std::vector<float> x(n);
    for (float& v : x) v = normal(rng);
    if (t == changed) x[5] = fifth;
    ASSERT_TRUE(writer->write_tensor(std::as_bytes(std::span(x))));
  }
  ASSERT_TRUE(writer->finish());
}

const std::vector<Entry> kModel = {
    {"token_embd.weight", {6, 256}},   {"blk.0.attn_q.weight", {4, 256}},
    {"blk.0.attn_k.weight", {4, 64}},  {"blk.0.attn_v.weight", {4, 12}},
    {"blk.0.attn_norm.weight", {256}}, {"blk.0.attn_q.bias", {32}},
    {"rope_freqs.weight", {1, 32}},    {"output.weight", {6, 256}}};

std::vector<DType> types_of(const QuantizeReport& report) {
  std::vector<DType> types;
  for (const auto& tensor : report.tensors) types.push_back(tensor.to);
  return types;
}

TEST(QuantizeFile, TypesFollowTheRules) {
  const TemporaryFile in("in.gguf"), out("out.gguf");
  write_model(in.path(), kModel);
  QuantizeOptions options;
  options.input = in.path();
  options.output = out.path();
  options.type = DType::q4_k;
  options.n_threads = 2;
  std::vector<double> fractions;
  const auto report =
      quantize_file(options, [&](const QuantizeProgress& p) { fractions.push_back(p.fraction); });
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(types_of(*report),
            (std::vector<DType>{DType::q4_k, DType::q4_k, DType::q5_0, DType::f16, DType::f32,
                                DType::f32, DType::f32, DType::q6_k}));
  EXPECT_EQ(report->tensors[2].wanted, DType::q4_k);
  EXPECT_EQ(report->tensors[3].wanted, DType::q4_k);
  EXPECT_FALSE(report->tensors[1].wanted);
  EXPECT_EQ(fractions.size(), kModel.size());
  EXPECT_EQ(fractions.back(), 1);

  const auto before = GgufFile::open(in.path()), after = GgufFile::open(out.path());
  ASSERT_TRUE(before && after);
  const GgufMetadata& meta = (*after)->metadata();
  EXPECT_EQ(meta.u32("general.file_type").value(), 14U);
  EXPECT_EQ(meta.u32("general.quantization_version").value(), 2U);
  EXPECT_EQ(meta.type("some.u16"), GgufType::u16);
  EXPECT_EQ(meta.type("some.list"), GgufType::i8);
  EXPECT_EQ(meta.ints("some.list").value(), (std::vector<std::int64_t>{-1, 2}));
  for (const GgufTensor& tensor : (*before)->tensors()) {
    const TensorView &a = tensor.view, &b = (*after)->find(tensor.name)->view;
    ASSERT_EQ(a.shape, b.shape);
    const std::size_t n = a.n_rows() * a.n_cols();
    std::vector<float> x(n), y(n);
    decode_row(a.dtype, a.bytes.data(), n, x.data());
    decode_row(b.dtype, b.bytes.data(), n, y.data());
    double error = 0;
    for (std::size_t i = 0; i < n; ++i) error += (x[i] - y[i]) * (x[i] - y[i]);
    EXPECT_LT(std::sqrt(error / static_cast<double>(n)), 0.08) << tensor.name;
  }
}

TEST(QuantizeFile, OutputAndEmbedding) {
  const TemporaryFile in("in2.gguf"), out("out2.gguf");
  auto tied = kModel;
  tied.pop_back();
  write_model(in.path(), tied);
  QuantizeOptions options;
  options.input = in.path();
  options.output = out.path();
  options.type = DType::q4_0;
  const auto embedding = [&] { return quantize_file(options)->tensors[0].to; };
  EXPECT_EQ(embedding(), DType::q6_k);
  options.pure = true;
  EXPECT_EQ(embedding(), DType::q4_0);
  options.output_type = DType::bf16;
  EXPECT_EQ(embedding(), DType::bf16);
  options.embedding_type = DType::q8_0;
  EXPECT_EQ(embedding(), DType::q8_0);
  EXPECT_EQ(fitting_type(DType::q6_k, 96), DType::q8_0);
  EXPECT_EQ(fitting_type(DType::q5_k, 96), DType::q5_1);
  EXPECT_EQ(fitting_type(DType::q8_0, 33), DType::f16);
  EXPECT_EQ(fitting_type(DType::bf16, 33), DType::bf16);
}

TEST(QuantizeFile, ThreadsChangeNothing) {
  const TemporaryFile in("in3.gguf"), one("one.gguf"), two("two.gguf");
  write_model(in.path(), kModel);
  QuantizeOptions options;
  options.input = in.path();
  options.output = one.path();
  ASSERT_TRUE(quantize_file(options));
  options.output = two.path();
  options.n_threads = 2;
  ASSERT_TRUE(quantize_file(options));
  EXPECT_EQ(one.read(), two.read());
}

TEST(QuantizeFile, ChecksWhatItOnlyCopies) {
  const TemporaryFile in("in5.gguf"), half("half.gguf"), out("out5.gguf");
  QuantizeOptions options;
  options.input = in.path();
  options.output = out.path();
  const auto error = [&] {
    const auto report = quantize_file(options);
    return report ? Error{} : report.error();
  };
  write_model(in.path(), kModel, std::nanf(""), 4);
  EXPECT_THAT(error().message, HasSubstr("'blk.0.attn_norm.weight': row 0 column 5 = nan"));
  EXPECT_EQ(error().code, Errc::corrupt);
  write_model(in.path(), kModel, INFINITY, 5);
  EXPECT_THAT(error().message, HasSubstr("'blk.0.attn_q.bias': row 0 column 5 = inf"));
  EXPECT_FALSE(std::filesystem::exists(out.path()));
  // The scale of a block: the first two bytes of q8_0's.
  {
    auto writer = GgufWriter::create(in.path());
    ASSERT_TRUE(writer);
    const std::uint64_t shape[] = {2, 32};
    writer->announce("blk.0.attn_q.weight", DType::q8_0, shape);
    ASSERT_TRUE(writer->begin_data());
    std::vector<std::byte> bytes(2 * 34, std::byte{1});
    bytes[34] = std::byte{0x00};
    bytes[35] = std::byte{0x7e};  // a NaN
    ASSERT_TRUE(writer->write_tensor(bytes));
    ASSERT_TRUE(writer->finish());
  }
  EXPECT_THAT(error().message, HasSubstr("'blk.0.attn_q.weight': row 1 column 0 = nan"));
}

TEST(QuantizeFile, Refusals) {
  const TemporaryFile in("in4.gguf"), out("out4.gguf"), again("again.gguf");
  QuantizeOptions options;
  options.input = in.path();
  options.output = out.path();
  const auto error = [&] {
    const auto report = quantize_file(options);
    return report ? std::string() : report.error().message;
  };
  EXPECT_THAT(error(), HasSubstr("cannot open"));
  write_model(in.path(), kModel, std::nanf(""));
  EXPECT_THAT(error(), HasSubstr("'token_embd.weight': row 0 column 5 = nan"));
  EXPECT_FALSE(std::filesystem::exists(out.path()));
  write_model(in.path(), kModel, 70000.0F);
  EXPECT_EQ(error(), "");
  options.type = DType::f16;
  EXPECT_THAT(error(), HasSubstr("= 70000 is beyond f16"));
  options.output = in.path();
  EXPECT_THAT(error(), HasSubstr("output is the input"));
  options.input = out.path();  // q8_0 by now
  options.output = again.path();
  options.type = DType::q4_0;
  EXPECT_THAT(error(), HasSubstr("is q8_0 already; making it q4_0 needs --allow-requantize"));
  options.allow_requantize = true;
  EXPECT_EQ(error(), "");
}

}  // namespace
}  // namespace larder
