#include "model/io/hf_source.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include "model/weights.h"
#include "safetensors_builder.h"
#include "scratch_dir.h"
#include "tiny_llama.h"

namespace larder {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Result<std::unique_ptr<ModelSource>> open(const ScratchDir& dir) {
  return open_model(dir.path(), {});
}

std::string error_of(const ScratchDir& dir) {
  const auto source = open(dir);
  return source ? "no error" : source.error().message;
}

TEST(HfSource, OpensADirectory) {
  ScratchDir dir;
  write_tiny_llama(dir);
  const auto source = open(dir);
  ASSERT_TRUE(source) << source.error().message;
  EXPECT_EQ((*source)->config().arch, "llama");
  EXPECT_EQ((*source)->tokenizer().kind, TokenizerKind::none);
  EXPECT_EQ((*source)->weights_description(), "F32");
  EXPECT_EQ((*source)->norm_weight_offset(), 0.0F);
  EXPECT_TRUE((*source)->find("blk.1.attn_q.weight"));
  EXPECT_FALSE((*source)->find("blk.2.attn_q.weight"));
  EXPECT_TRUE(Weights::load(**source));
}

TEST(HfSource, ReadsGenerationConfig) {
  ScratchDir dir;
  write_tiny_llama(dir);
  dir.write("generation_config.json",
            R"({"eos_token_id":[3,5],"temperature":0.6,"top_k":20,"top_p":0.9})");
  const auto source = open(dir);
  ASSERT_TRUE(source) << source.error().message;
  EXPECT_THAT((*source)->tokenizer().end_tokens, ElementsAre(3, 5));
  EXPECT_EQ((*source)->tokenizer().eos, 3);
  EXPECT_EQ((*source)->generation_defaults().temperature, 0.6F);
  EXPECT_EQ((*source)->generation_defaults().top_k, 20);
  EXPECT_FALSE((*source)->generation_defaults().min_p);
  dir.write("generation_config.json", R"({"eos_token_id":99})");
  EXPECT_THAT(error_of(dir), HasSubstr("field 'eos_token_id' must be token ids below 40"));
  dir.write("generation_config.json", "[");
  EXPECT_THAT(error_of(dir), HasSubstr("generation_config.json: not a JSON object"));
}

TEST(HfSource, ChecksRangesOfGenerationConfig) {
  ScratchDir dir;
  write_tiny_llama(dir);
  const auto error_with = [&](std::string_view text) {
    dir.write("generation_config.json", text);
    return error_of(dir);
  };
  EXPECT_THAT(error_with(R"({"temperature":-1})"),
              HasSubstr("generation_config.json: field 'temperature' is -1, expected 0 to 100"));
  EXPECT_THAT(error_with(R"({"top_p":1.5})"), HasSubstr("'top_p' is 1.5, expected 0 to 1"));
  EXPECT_THAT(error_with(R"({"top_k":-3})"), HasSubstr("'top_k' is -3"));
  EXPECT_THAT(error_with(R"({"bos_token_id":40})"),
              HasSubstr("generation_config.json: field 'bos_token_id' is 40"));
  EXPECT_EQ(error_with(R"({"bos_token_id":39,"top_k":4000000000})"), "no error");
  EXPECT_EQ(error_with(R"({"bos_token_id":null})"), "no error");
  dir.write("config.json", tiny_llama_config(R"("bos_token_id":1000000)"));
  EXPECT_THAT(error_of(dir), HasSubstr("config.json: field 'bos_token_id' is 1000000"));
}

TEST(HfSource, SaysWhereJsonBreaks) {
  ScratchDir dir;
  const auto error_with = [&](std::string_view text) {
    dir.write("config.json", text);
    return error_of(dir);
  };
  EXPECT_THAT(error_with(R"({"a":Infinity})"),
              HasSubstr("config.json: not a JSON object: byte 6 "));
  EXPECT_THAT(error_with("[]"), HasSubstr("not a JSON object: the file holds one array"));
  EXPECT_THAT(error_with(std::string(100000, '[')), HasSubstr("byte 100001 "));
  EXPECT_THAT(error_with(""), HasSubstr("byte 1 "));
}

TEST(HfSource, NamesMissingTensorsAsTheFileDoes) {
  ScratchDir dir;
  dir.write("config.json", tiny_llama_config());
  SafetensorsBuilder builder;
  add_tiny_llama_layers(builder);
  dir.write("model.safetensors", builder.bytes());
  EXPECT_THAT(error_of(dir),
              HasSubstr("'model.embed_tokens.weight (token_embd.weight)' is missing"));
  write_tiny_llama(dir);
  const auto source = open(dir);
  ASSERT_TRUE(source);
  EXPECT_EQ((*source)->shown_name("blk.1.ffn_norm.weight"),
            "model.layers.1.post_attention_layernorm.weight (blk.1.ffn_norm.weight)");
  EXPECT_EQ((*source)->shown_name("blk.11.attn_q.bias"),
            "model.layers.11.self_attn.q_proj.bias (blk.11.attn_q.bias)");
  EXPECT_EQ((*source)->shown_name("odd"), "odd");
}

TEST(HfSource, TiesTheOutputUnderEitherName) {
  for (const char* kept : {"model.embed_tokens.weight", "lm_head.weight"}) {
    ScratchDir dir;
    dir.write("config.json", tiny_llama_config(R"("tie_word_embeddings":true)"));
    SafetensorsBuilder builder;
    add_tiny_llama_layers(builder);
    builder.add_f32(kept, {40, 16}, 1, 0);
    dir.write("model.safetensors", builder.bytes());
    const auto source = open(dir);
    ASSERT_TRUE(source) << source.error().message;
    EXPECT_TRUE((*source)->find("token_embd.weight")) << kept;
    EXPECT_FALSE((*source)->find("output.weight")) << kept;
    EXPECT_TRUE(Weights::load(**source));
  }
}

TEST(HfSource, WantsTheOutputWhenNotTied) {
  ScratchDir dir;
  dir.write("config.json", tiny_llama_config(R"("tie_word_embeddings":false)"));
  SafetensorsBuilder builder;
  add_tiny_llama_layers(builder);
  builder.add_f32("model.embed_tokens.weight", {40, 16}, 1, 0);
  dir.write("model.safetensors", builder.bytes());
  EXPECT_THAT(error_of(dir), HasSubstr("'lm_head.weight' is missing"));
}

TEST(HfSource, JoinsShards) {
  ScratchDir dir;
  dir.write("config.json", tiny_llama_config());
  SafetensorsBuilder layers, ends;
  add_tiny_llama_layers(layers);
  ends.add_f32("model.embed_tokens.weight", {40, 16}, 1, 0);
  dir.write("model-00001-of-00002.safetensors", layers.bytes());
  dir.write("model-00002-of-00002.safetensors", ends.bytes());
  dir.write("model.safetensors.index.json",
            R"({"metadata":{"total_size":1},"weight_map":{"a":"model-00001-of-00002.safetensors",
                "b":"model-00002-of-00002.safetensors","c":"model-00001-of-00002.safetensors"}})");
  const auto source = open(dir);
  ASSERT_TRUE(source) << source.error().message;
  EXPECT_TRUE(Weights::load(**source));
}

TEST(HfSource, AnIndexStaysInItsDirectory) {
  ScratchDir dir;
  dir.write("config.json", tiny_llama_config());
  for (const std::string name : {"../x.safetensors", "/etc/passwd", "", ".hidden"}) {
    dir.write("model.safetensors.index.json", R"({"weight_map":{"a":")" + name + "\"}}");
    EXPECT_THAT(error_of(dir), HasSubstr("weight_map names the file"));
  }
  dir.write("model.safetensors.index.json", R"({"weight_map":{"a":1}})");
  EXPECT_THAT(error_of(dir), HasSubstr("not a file name"));
  dir.write("model.safetensors.index.json", R"({"weight_map":{}})");
  EXPECT_THAT(error_of(dir), HasSubstr("names no file"));
  dir.write("model.safetensors.index.json", R"({"weight_map":{"a":"gone.safetensors"}})");
  EXPECT_THAT(error_of(dir), HasSubstr("gone.safetensors"));
}

TEST(HfSource, RefusesTensorsItWouldLeaveOut) {
  const auto error_with = [](std::string_view name, std::string_view dtype, std::string_view data) {
    ScratchDir dir;
    dir.write("config.json", tiny_llama_config());
    SafetensorsBuilder builder;
    add_tiny_llama_layers(builder);
    builder.add(name, {4}, dtype, data);
    builder.add_f32("model.embed_tokens.weight", {40, 16}, 1, 0);
    dir.write("model.safetensors", builder.bytes());
    return error_of(dir);
  };
  EXPECT_THAT(error_with("model.layers.0.experts.weight", "U8", "abcd"),
              HasSubstr("tensor 'model.layers.0.experts.weight' is unknown to the architecture"));
  EXPECT_THAT(error_with("model.layers.7.mlp.up_proj.weight", "U8", "abcd"),
              HasSubstr("beyond num_hidden_layers = 2"));
  EXPECT_THAT(error_with("model.layers.0.mlp.up_proj.bias", "F8_E4M3", "abcd"),
              HasSubstr("has dtype F8_E4M3"));
  EXPECT_EQ(error_with("model.layers.0.self_attn.rotary_emb.inv_freq", "U8", "abcd"), "no error");
}

TEST(HfSource, SaysWhatIsMissing) {
  ScratchDir dir;
  EXPECT_THAT(error_of(dir), HasSubstr("has no config.json"));
  dir.write("config.json", "{");
  EXPECT_THAT(error_of(dir), HasSubstr("config.json: not a JSON object"));
  dir.write("config.json", tiny_llama_config());
  EXPECT_THAT(error_of(dir), HasSubstr("neither model.safetensors nor"));
  dir.write("config.json", std::string(2 << 20, ' '));
  EXPECT_THAT(error_of(dir), HasSubstr("the limit is 1048576"));
}

TEST(OpenModel, TellsFilesApart) {
  ScratchDir dir;
  const auto error_for = [&](std::string_view name) {
    const auto source = open_model(dir.path(name), {});
    return source ? "no error" : source.error().message;
  };
  EXPECT_THAT(error_for("nothing"), HasSubstr("no such file or directory"));
  dir.write("m.txt", "hello");
  EXPECT_THAT(error_for("m.txt"), HasSubstr("it begins with 68 65 6c 6c"));
  dir.write("m.bin", "hello");
  EXPECT_THAT(error_for("m.bin"), HasSubstr("larder convert"));
  dir.write("m.gguf", "GGUF");
  EXPECT_THAT(error_for("m.gguf"), HasSubstr("m.gguf"));
  dir.write("m.empty", "");
  EXPECT_THAT(error_for("m.empty"), HasSubstr("m.empty: the file is empty"));
  ASSERT_EQ(::mkfifo(dir.path("pipe.gguf").c_str(), 0600), 0);
  const auto source = open_model(dir.path("pipe.gguf"), {});
  ASSERT_FALSE(source);
  EXPECT_EQ(source.error().code, Errc::invalid_argument);
  EXPECT_THAT(source.error().message, HasSubstr("pipe.gguf: not a regular file"));
}

}  // namespace
}  // namespace larder
