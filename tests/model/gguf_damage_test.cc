// Every truncation and every flipped byte of a small file: refused or read, never a crash.
#include <gtest/gtest.h>

#include "model/gguf_builder.h"
#include "model/io/gguf.h"
#include "model/io/gguf_source.h"
#include "model/io/gguf_tokenizer.h"
#include "tensor/quantize.h"

namespace larder {
namespace {

std::string small_file() {
  const TemporaryFile out("damage.gguf");
  auto writer = GgufWriter::create(out.path());
  EXPECT_TRUE(writer);
  writer->put("general.architecture", GgufType::string, std::string("llama"));
  writer->put("llama.block_count", GgufType::u32, std::uint64_t{1});
  writer->put("general.sampling.temp", GgufType::f32, 0.5);
  TokenizerData tokenizer;
  tokenizer.kind = TokenizerKind::byte_bpe;
  tokenizer.tokens = {"a", "b", "ab", "<|im_end|>"};
  tokenizer.types.assign(4, TokenType::normal);
  tokenizer.merges = {"a b"};
  tokenizer.pre = "gpt-2";
  tokenizer.added = {{3, "<|im_end|>", true, false, true}};
  tokenizer.fuse_unk = false;
  EXPECT_TRUE(write_tokenizer(tokenizer, *writer));
  const std::uint64_t matrix[] = {2, 32}, vector[] = {3};
  writer->announce("m.weight", DType::q4_0, matrix);
  writer->announce("v.weight", DType::f32, vector);
  EXPECT_TRUE(writer->begin_data());
  EXPECT_TRUE(writer->write_tensor(std::vector<std::byte>(36)));
  EXPECT_TRUE(writer->write_tensor(std::vector<std::byte>(12)));
  EXPECT_TRUE(writer->finish());
  return out.read();
}

/// Reads all there is. Whether that is an error does not matter here.
void read_all(std::string_view bytes) {
  // A copy of exact size: reading one byte too far is then seen by the sanitizer.
  const std::vector<char> copy(bytes.begin(), bytes.end());
  auto file = GgufFile::parse(std::as_bytes(std::span(copy)), "damaged");
  if (!file) {
    EXPECT_FALSE(file.error().message.empty());
    return;
  }
  for (const GgufTensor& tensor : (*file)->tensors()) {
    std::vector<float> row(tensor.view.n_cols());
    decode_row(tensor.view.dtype, tensor.view.bytes.data(), row.size(), row.data());
  }
  const auto source = source_of(std::move(*file), {.vocab_only = true});
  EXPECT_TRUE(source || !source.error().message.empty());
}

TEST(GgufDamage, TruncatedAtEveryByte) {
  const std::string good = small_file();
  ASSERT_LT(good.size(), 4096U);
  for (std::size_t n = 0; n < good.size(); ++n) read_all(std::string_view(good).substr(0, n));
}

TEST(GgufDamage, EveryByteFlipped) {
  const std::string good = small_file();
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (const int mask : {0x01, 0x80, 0xff}) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ mask);
      read_all(bad);
    }
  }
}

TEST(GgufDamage, LengthsReplacedByOddNumbers) {
  const std::string good = small_file();
  for (std::size_t i = 0; i + 8 <= good.size(); ++i) {
    for (const std::uint64_t odd : {0ULL, ~0ULL, 1ULL << 63, 1ULL << 32, 0x7fffffffULL}) {
      std::string bad = good;
      std::memcpy(bad.data() + i, &odd, sizeof odd);
      read_all(bad);
    }
  }
}

}  // namespace
}  // namespace larder
