#include "model/io/gguf_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/gguf_builder.h"
#include "model/io/gguf.h"
#include "model/io/gguf_source.h"

namespace larder {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

GgufMetadata sentencepiece_metadata() {
  GgufMetadata meta("x.gguf");
  meta.set("tokenizer.ggml.model", std::string("llama"));
  meta.set("tokenizer.ggml.tokens", std::vector<std::string>{"<unk>", "<s>", "</s>", "a"});
  meta.set("tokenizer.ggml.scores", std::vector<double>{0, 0, 0, -1});
  meta.set("tokenizer.ggml.token_type", std::vector<std::int64_t>{2, 3, 3, 1});
  return meta;
}

TokenizerData read_back(const TokenizerData& data) {
  const TemporaryFile out("tokenizer.gguf");
  auto writer = GgufWriter::create(out.path());
  EXPECT_TRUE(writer);
  const auto written = write_tokenizer(data, *writer);
  EXPECT_TRUE(written) << written.error().message;
  EXPECT_TRUE(writer->begin_data());
  EXPECT_TRUE(writer->finish());
  const auto file = GgufFile::open(out.path());
  EXPECT_TRUE(file) << file.error().message;
  const auto read = read_tokenizer((*file)->metadata());
  EXPECT_TRUE(read) << read.error().message;
  return *read;
}

void expect_same(const TokenizerData& a, const TokenizerData& b) {
  EXPECT_EQ(a.kind, b.kind);
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(a.scores, b.scores);
  EXPECT_EQ(a.types, b.types);
  EXPECT_EQ(a.merges, b.merges);
  EXPECT_EQ(a.pre, b.pre);
  EXPECT_EQ(a.chat_template, b.chat_template);
  EXPECT_EQ(a.end_tokens, b.end_tokens);
  for (const auto id : {&TokenizerData::bos, &TokenizerData::eos, &TokenizerData::unk,
                        &TokenizerData::pad, &TokenizerData::eot}) {
    EXPECT_EQ(a.*id, b.*id);
  }
  for (const auto flag :
       {&TokenizerData::add_bos, &TokenizerData::add_eos, &TokenizerData::add_space_prefix,
        &TokenizerData::byte_fallback, &TokenizerData::ignore_merges,
        &TokenizerData::prefix_first_only, &TokenizerData::prefix_unless_space,
        &TokenizerData::split_at_spaces, &TokenizerData::trim_spaces, &TokenizerData::fuse_unk,
        &TokenizerData::byte_space_prefix, &TokenizerData::nfc}) {
    EXPECT_EQ(a.*flag, b.*flag);
  }
  ASSERT_EQ(a.added.size(), b.added.size());
  for (std::size_t i = 0; i < a.added.size(); ++i) {
    EXPECT_EQ(a.added[i].id, b.added[i].id);
    EXPECT_EQ(a.added[i].text, b.added[i].text);
    EXPECT_EQ(a.added[i].normalized, b.added[i].normalized);
    EXPECT_EQ(a.added[i].lstrip, b.added[i].lstrip);
    EXPECT_EQ(a.added[i].rstrip, b.added[i].rstrip);
  }
}

TEST(GgufTokenizer, DefaultsOfSentencePiece) {
  const auto data = read_tokenizer(sentencepiece_metadata());
  ASSERT_TRUE(data) << data.error().message;
  EXPECT_EQ(data->kind, TokenizerKind::sentencepiece);
  EXPECT_EQ(data->bos, 1);
  EXPECT_EQ(data->eos, 2);
  EXPECT_EQ(data->unk, 0);
  EXPECT_EQ(data->pad, kNoToken);
  EXPECT_TRUE(data->add_bos);
  EXPECT_FALSE(data->add_eos);
  EXPECT_TRUE(data->add_space_prefix);
  EXPECT_THAT(data->scores, ElementsAre(0, 0, 0, -1));
  EXPECT_THAT(data->end_tokens, ElementsAre(2));
}

TEST(GgufTokenizer, DefaultsOfByteBpe) {
  GgufMetadata meta("x.gguf");
  meta.set("tokenizer.ggml.model", std::string("gpt2"));
  meta.set("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "<|eom_id|>", "<|eot_id|>"});
  EXPECT_THAT(read_tokenizer(meta).error().message,
              HasSubstr("'tokenizer.ggml.merges' is missing"));
  meta.set("tokenizer.ggml.merges", std::vector<std::string>{});
  auto data = read_tokenizer(meta);
  ASSERT_TRUE(data) << data.error().message;
  EXPECT_EQ(data->bos, kNoToken);
  EXPECT_FALSE(data->add_bos);
  EXPECT_FALSE(data->add_space_prefix);
  EXPECT_THAT(data->end_tokens, ElementsAre(2, 3));
  EXPECT_EQ(data->types.size(), 4U);
  meta.set("tokenizer.ggml.pre", std::string("llama-bpe"));
  meta.set("tokenizer.ggml.eos_token_id", std::uint64_t{1});
  meta.set("tokenizer.ggml.bos_token_id", std::uint64_t{0xffffffff});
  data = read_tokenizer(meta);
  ASSERT_TRUE(data);
  EXPECT_TRUE(data->add_bos);
  EXPECT_EQ(data->bos, kNoToken);
  EXPECT_THAT(data->end_tokens, ElementsAre(1, 2, 3));
}

TEST(GgufTokenizer, NoTokenizer) {
  const auto data = read_tokenizer(GgufMetadata("x.gguf"));
  ASSERT_TRUE(data);
  EXPECT_EQ(data->kind, TokenizerKind::none);
}

TEST(GgufTokenizer, BadMetadata) {
  const auto error = [](std::string key, GgufValue value) {
    GgufMetadata meta = sentencepiece_metadata();
    meta.set(std::move(key), std::move(value));
    const auto data = read_tokenizer(meta);
    return data ? std::string() : data.error().message;
  };
  EXPECT_THAT(error("tokenizer.ggml.model", std::string("bert")),
              HasSubstr("tokenizer.ggml.model = 'bert', supported are llama and gpt2"));
  EXPECT_THAT(error("tokenizer.ggml.tokens", std::vector<std::string>{}), HasSubstr("empty"));
  EXPECT_THAT(error("tokenizer.ggml.scores", std::vector<double>{1}),
              HasSubstr("1 entries for 4 tokens"));
  EXPECT_THAT(error("tokenizer.ggml.scores", std::vector<double>{0, 0, std::nan(""), 0}),
              HasSubstr("entry 2 is not a number"));
  EXPECT_THAT(error("tokenizer.ggml.token_type", std::vector<std::int64_t>{1, 1, 9, 1}),
              HasSubstr("entry 2 = 9 is no token type"));
  EXPECT_THAT(error("tokenizer.ggml.eos_token_id", std::uint64_t{4}),
              HasSubstr("'tokenizer.ggml.eos_token_id' = 4 is beyond the 4 tokens"));
  EXPECT_THAT(error("larder.tokenizer.added.ids", std::vector<std::int64_t>{1}),
              HasSubstr("1 ids, 0 texts, 0 flags"));
  EXPECT_THAT(error("larder.tokenizer.end_tokens", std::vector<std::int64_t>{-1}),
              HasSubstr("id -1"));
}

TEST(GgufTokenizer, WritingIsTheInverseOfReading) {
  TokenizerData data;
  data.kind = TokenizerKind::byte_bpe;
  data.tokens = {"a", "b", "ab", "<|im_end|>", "<|endoftext|>"};
  data.types = {TokenType::normal, TokenType::byte, TokenType::unused, TokenType::control,
                TokenType::user_defined};
  data.merges = {"a b"};
  data.pre = "qwen2";
  data.eos = 3;
  data.pad = 4;
  data.end_tokens = {3};  // less than the texts say
  data.add_space_prefix = false;
  data.ignore_merges = data.nfc = data.byte_space_prefix = true;
  data.fuse_unk = false;
  data.chat_template = "{{ messages }}";
  data.added = {{3, "<|im_end|>", false, true, false}, {4, "<|endoftext|>", true, false, true}};
  expect_same(data, read_back(data));

  TokenizerData pieces;
  pieces.kind = TokenizerKind::sentencepiece;
  pieces.tokens = {"<unk>", "<s>", "</s>", "a", "aa", "</s>x"};
  pieces.types.assign(6, TokenType::normal);
  pieces.scores = {0, 0, 0, -1, -2, -3};
  pieces.eos = 2;  // and neither bos nor unk, against the defaults
  pieces.end_tokens = {2};
  pieces.add_space_prefix = pieces.byte_fallback = false;
  pieces.prefix_first_only = pieces.prefix_unless_space = pieces.split_at_spaces = true;
  pieces.trim_spaces = true;
  expect_same(pieces, read_back(pieces));

  pieces.scores.clear();
  pieces.merges = {"a a"};
  expect_same(pieces, read_back(pieces));
}

TEST(GgufTokenizer, MergesBecomeScoresForOtherReaders) {
  TokenizerData data;
  data.kind = TokenizerKind::sentencepiece;
  data.tokens = {"a", "b", "ab", "aab", "zz"};
  data.merges = {"a b", "a ab"};
  const TemporaryFile out("scores.gguf");
  auto writer = GgufWriter::create(out.path());
  ASSERT_TRUE(writer && write_tokenizer(data, *writer) && writer->begin_data() && writer->finish());
  const auto file = GgufFile::open(out.path());
  ASSERT_TRUE(file);
  EXPECT_THAT((*file)->metadata().floats("tokenizer.ggml.scores").value(),
              ElementsAre(0, 0, -1, -2, 0));
}

TEST(GgufTokenizer, WhatCannotBeWritten) {
  const TemporaryFile out("refused.gguf");
  auto writer = GgufWriter::create(out.path());
  ASSERT_TRUE(writer);
  TokenizerData data;
  EXPECT_TRUE(write_tokenizer(data, *writer));  // none: nothing
  data.kind = TokenizerKind::byte_bpe;
  EXPECT_FALSE(write_tokenizer(data, *writer));
  data.tokens = {"a"};
  data.types.assign(2, TokenType::normal);
  EXPECT_FALSE(write_tokenizer(data, *writer));
}

TEST(GgufSource, GenerationDefaults) {
  const TemporaryFile out("sampling.gguf");
  auto writer = GgufWriter::create(out.path());
  ASSERT_TRUE(writer);
  GenerationDefaults defaults;
  defaults.temperature = 0.5F;
  defaults.top_k = 20;
  defaults.min_p = 0;
  write_generation_defaults(defaults, *writer);
  ASSERT_TRUE(writer->begin_data() && writer->finish());
  const auto file = GgufFile::open(out.path());
  ASSERT_TRUE(file);
  const auto read = read_generation_defaults((*file)->metadata());
  ASSERT_TRUE(read);
  EXPECT_EQ(read->temperature, 0.5F);
  EXPECT_EQ(read->top_k, 20);
  EXPECT_EQ(read->min_p, 0.0F);
  EXPECT_FALSE(read->top_p);
  GgufMetadata bad("x.gguf");
  bad.set("general.sampling.top_p", 1.5);
  EXPECT_THAT(read_generation_defaults(bad).error().message, HasSubstr("top_p' = 1.5"));
}

TEST(GgufSource, VocabularyOnly) {
  const TemporaryFile out("vocab.gguf");
  auto writer = GgufWriter::create(out.path());
  ASSERT_TRUE(writer);
  TokenizerData data;
  data.kind = TokenizerKind::byte_bpe;
  data.tokens = {"a", "b"};
  writer->put("general.architecture", GgufType::string, std::string("gpt2"));
  ASSERT_TRUE(write_tokenizer(data, *writer) && writer->begin_data() && writer->finish());
  const auto source = open_gguf(out.path(), {.vocab_only = true});
  ASSERT_TRUE(source) << source.error().message;
  EXPECT_EQ((*source)->config().arch, "gpt2");
  EXPECT_EQ((*source)->config().n_vocab, 2U);
  EXPECT_EQ((*source)->tokenizer().tokens.size(), 2U);
  EXPECT_EQ((*source)->weights_description(), "no weights");
  EXPECT_THAT(open_gguf(out.path(), {}).error().message, HasSubstr("vocabulary-only file"));
}

}  // namespace
}  // namespace larder
