#include "model/io/hf_source.h"

#include <gmock/gmock.h>

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
}

}  // namespace
}  // namespace larder
