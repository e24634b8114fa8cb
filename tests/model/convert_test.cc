#include "model/io/convert.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <cstring>

#include "model/io/gguf.h"
#include "model/io/model_source.h"
#include "model/weights.h"
#include "scratch_dir.h"
#include "tiny_llama.h"

namespace larder {
namespace {

using testing::HasSubstr;

ConvertOptions options_for(const ScratchDir& dir, std::optional<DType> type) {
  ConvertOptions options;
  options.input = dir.path();
  options.output = dir.path("m.gguf");
  options.type = type;
  return options;
}

std::vector<float> floats_of(const ModelSource& source, std::string_view name) {
  const auto view = source.find(name);
  if (!view || view->dtype != DType::f32) return {};
  std::vector<float> values(view->bytes.size() / sizeof(float));
  std::memcpy(values.data(), view->bytes.data(), view->bytes.size());
  return values;
}

TEST(Convert, KeepsTheFloatsAndPermutesHeads) {
  ScratchDir dir;
  write_tiny_llama(dir);
  const auto report = convert_model(options_for(dir, {}));
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->n_tensors, 20U);
  EXPECT_EQ(report->type, DType::f32);
  const auto hf = open_model(dir.path());
  const auto gguf = open_model(dir.path("m.gguf"));
  ASSERT_TRUE(hf && gguf) << (gguf ? "" : gguf.error().message);
  EXPECT_EQ((*gguf)->config().rope.style, RopeStyle::adjacent);
  ASSERT_TRUE(Weights::load(**gguf));
  for (const auto& name : (*hf)->tensor_names()) {
    if (name.find("attn_q") != std::string::npos || name.find("attn_k") != std::string::npos)
      continue;
    EXPECT_EQ(floats_of(**hf, name), floats_of(**gguf, name)) << name;
  }
  // Heads of 8 rows: pair i is rows (i, i + 4) there and (2i, 2i + 1) here.
  constexpr std::array<std::size_t, 8> kFrom = {0, 4, 1, 5, 2, 6, 3, 7};
  const auto q = floats_of(**hf, "blk.1.attn_q.weight");
  const auto permuted = floats_of(**gguf, "blk.1.attn_q.weight");
  ASSERT_EQ(q.size(), permuted.size());
  for (std::size_t row = 0; row < 16; ++row) {
    const std::size_t from = row / 8 * 8 + kFrom[row % 8];
    EXPECT_EQ(permuted[row * 16], q[from * 16]) << row;
  }
}

TEST(Convert, AddsOneToGemmaNorms) {
  ScratchDir dir;
  dir.write("config.json",
            tiny_llama_config(R"("head_dim":8,"hidden_activation":"gelu_pytorch_tanh")",
                              "Gemma2ForCausalLM"));
  SafetensorsBuilder builder;
  add_tiny_llama_layers(builder);
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    builder.add_f32(layer + "pre_feedforward_layernorm.weight", {16}, 0.5F, 0);
    builder.add_f32(layer + "post_feedforward_layernorm.weight", {16}, 0.25F, 0);
  }
  builder.add_f32("model.embed_tokens.weight", {40, 16}, 1, 0.5F);
  dir.write("model.safetensors", builder.bytes());
  const auto report = convert_model(options_for(dir, {}));
  ASSERT_TRUE(report) << report.error().message;
  const auto gguf = open_model(dir.path("m.gguf"));
  ASSERT_TRUE(gguf) << gguf.error().message;
  EXPECT_EQ((*gguf)->norm_weight_offset(), 0.0F);
  EXPECT_EQ(floats_of(**gguf, "blk.0.ffn_norm.weight")[3], 1.5F);
  EXPECT_EQ(floats_of(**gguf, "output_norm.weight")[0], 2.0F);
  EXPECT_EQ(floats_of(**gguf, "blk.0.attn_norm.weight")[1], 1.25F);
}

TEST(Convert, EveryTypeWithFallbacksReported) {
  ScratchDir dir;
  write_tiny_llama(dir);
  for (const DType type : {DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::q4_1,
                           DType::q5_0, DType::q5_1, DType::q4_k, DType::q5_k, DType::q6_k}) {
    const auto report = convert_model(options_for(dir, type));
    ASSERT_TRUE(report) << report.error().message;
    const bool blocks = dtype_info(type).block_elems > 1;
    // Rows of 16 fit no block; ffn_down's rows of 32 fit the small ones.
    const std::size_t n_fallbacks = !blocks ? 0 : dtype_info(type).block_elems == 32 ? 13 : 15;
    EXPECT_EQ(report->fallbacks.size(), n_fallbacks) << dtype_info(type).name;
    const auto gguf = open_model(dir.path("m.gguf"));
    ASSERT_TRUE(gguf) << gguf.error().message;
    EXPECT_EQ((*gguf)->find("output_norm.weight")->dtype, DType::f32);
    EXPECT_EQ((*gguf)->find("blk.0.attn_v.weight")->dtype, blocks ? DType::f16 : type);
    EXPECT_TRUE(Weights::load(**gguf));
  }
}

TEST(Convert, SameBytesForAnyThreads) {
  ScratchDir dir;
  write_tiny_llama(dir);
  auto options = options_for(dir, DType::q8_0);
  ASSERT_TRUE(convert_model(options));
  const std::string one = dir.read("m.gguf");
  options.n_threads = 3;
  ASSERT_TRUE(convert_model(options));
  EXPECT_EQ(one, dir.read("m.gguf"));
}

TEST(Convert, WritesNameAndLicense) {
  ScratchDir dir;
  write_tiny_llama(dir);
  dir.write("README.md", "---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n");
  auto options = options_for(dir, {});
  options.name = "tiny";
  ASSERT_TRUE(convert_model(options));
  const auto file = GgufFile::open(dir.path("m.gguf"));
  ASSERT_TRUE(file);
  EXPECT_EQ((*file)->metadata().string_or("general.name", ""), "tiny");
  EXPECT_EQ((*file)->metadata().string_or("general.license", ""), "apache-2.0");
  EXPECT_EQ((*file)->metadata().string_or("tokenizer.ggml.model", ""), "no_vocab");
}

TEST(Convert, PadsTheVocabulary) {
  ScratchDir dir;
  write_tiny_llama(dir);
  dir.write("tokenizer.json",
            R"({"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]},
                "pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":true}})");
  const auto report = convert_model(options_for(dir, {}));
  ASSERT_TRUE(report) << report.error().message;
  const auto gguf = open_model(dir.path("m.gguf"));
  ASSERT_TRUE(gguf) << gguf.error().message;
  EXPECT_EQ((*gguf)->tokenizer().tokens.size(), 40U);
  EXPECT_EQ((*gguf)->tokenizer().tokens[39], "[PAD39]");
  EXPECT_EQ((*gguf)->tokenizer().types[39], TokenType::unused);
}

TEST(Convert, RefusesWithoutLeavingAFile) {
  ScratchDir dir;
  dir.write("config.json", tiny_llama_config());
  SafetensorsBuilder builder;
  add_tiny_llama_layers(builder);
  builder.add_f32("model.embed_tokens.weight", {40, 15}, 1, 0.5F);
  dir.write("model.safetensors", builder.bytes());
  const auto report = convert_model(options_for(dir, {}));
  ASSERT_FALSE(report);
  EXPECT_THAT(report.error().message, HasSubstr("token_embd.weight"));
  EXPECT_FALSE(std::filesystem::exists(dir.path("m.gguf")));
}

TEST(Convert, RefusesNumbersThatAreNone) {
  ScratchDir dir;
  dir.write("config.json", tiny_llama_config());
  SafetensorsBuilder builder;
  add_tiny_llama_layers(builder);
  builder.add_f32("model.embed_tokens.weight", {40, 16}, std::numeric_limits<float>::quiet_NaN(),
                  0);
  dir.write("model.safetensors", builder.bytes());
  const auto report = convert_model(options_for(dir, DType::q8_0));
  ASSERT_FALSE(report);
  EXPECT_THAT(report.error().message, HasSubstr("(token_embd.weight)' holds a value in row"));
  EXPECT_FALSE(std::filesystem::exists(dir.path("m.gguf")));
  EXPECT_THAT(report.error().message, HasSubstr("'model.embed_tokens.weight (token_embd.weight)'"));
}

TEST(Convert, RefusesInputsThatAreNone) {
  ScratchDir dir;
  write_tiny_llama(dir);
  ASSERT_EQ(::mkfifo(dir.path("pipe").c_str(), 0600), 0);
  const auto error_for = [&](std::string_view input, std::string_view output = "m.gguf") {
    auto options = options_for(dir, {});
    options.input = dir.path(input);
    options.output = dir.path(output);
    const auto report = convert_model(options);
    return report ? Error{Errc::io, "no error"} : report.error();
  };
  EXPECT_THAT(error_for("pipe").message, HasSubstr("pipe: not a regular file"));
  EXPECT_EQ(error_for("pipe").code, Errc::invalid_argument);
  EXPECT_THAT(error_for("model.safetensors").message, HasSubstr("give its directory"));
  EXPECT_EQ(error_for("", "").code, Errc::invalid_argument);
  EXPECT_EQ(error_for("", "pipe").code, Errc::invalid_argument);
  EXPECT_TRUE(std::filesystem::is_fifo(dir.path("pipe")));
}

TEST(Convert, TakesNoLicenseFromAPipe) {
  ScratchDir dir;
  write_tiny_llama(dir);
  ASSERT_EQ(::mkfifo(dir.path("README.md").c_str(), 0600), 0);
  EXPECT_TRUE(convert_model(options_for(dir, {})));
}

TEST(Convert, WarnsOfMissingByteTokens) {
  const auto warnings = [](bool bytes) {
    ScratchDir dir;
    dir.write("config.json", tiny_llama_config(R"("vocab_size":300)"));
    SafetensorsBuilder builder;
    add_tiny_llama_layers(builder);
    builder.add_f32("model.embed_tokens.weight", {300, 16}, 1, 0.5F);
    dir.write("model.safetensors", builder.bytes());
    std::string vocab = R"("<unk>":0,"a":1)";
    for (int i = 0; bytes && i < 256; ++i) vocab += fmt::format(",\"<0x{:02X}>\":{}", i, i + 2);
    dir.write("tokenizer.json", R"({"model":{"type":"BPE","unk_token":"<unk>","byte_fallback":)" +
                                    std::string(bytes ? "true" : "false") + R"(,"vocab":{)" +
                                    vocab +
                                    R"(},"merges":[]},
                  "normalizer":{"type":"Replace","pattern":{"String":" "},"content":"\u2581"}})");
    const auto report = convert_model(options_for(dir, {}));
    return report ? report->warnings : std::vector<std::string>{report.error().message};
  };
  EXPECT_THAT(warnings(true), testing::IsEmpty());
  EXPECT_THAT(warnings(false), testing::ElementsAre(HasSubstr("256 of the 256 byte tokens")));
}

TEST(Convert, RefusesGguf) {
  ConvertOptions options;
  options.input = LARDER_MODELS_DIR "/stories260K.gguf";
  options.output = testing::TempDir() + "never.gguf";
  const auto report = convert_model(options);
  ASSERT_FALSE(report);
  EXPECT_THAT(report.error().message, HasSubstr("a GGUF file already"));
}

TEST(EmbeddedModel, OpensWithTheExpectedConfig) {
  const auto source = open_model(LARDER_MODELS_DIR "/stories260K.gguf");
  ASSERT_TRUE(source) << source.error().message;
  const ModelConfig& config = (*source)->config();
  EXPECT_EQ(config.arch, "llama");
  EXPECT_EQ(config.name, "stories260K");
  EXPECT_EQ(config.n_layers, 5U);
  EXPECT_EQ(config.n_embd, 64U);
  EXPECT_EQ(config.n_ff, 172U);
  EXPECT_EQ(config.n_heads, 8U);
  EXPECT_EQ(config.n_kv_heads, 4U);
  EXPECT_EQ(config.n_vocab, 512U);
  EXPECT_EQ(config.n_context_train, 512U);
  EXPECT_EQ(config.rope.style, RopeStyle::adjacent);
  EXPECT_EQ((*source)->tokenizer().tokens.size(), 512U);
  EXPECT_THAT((*source)->tokenizer().end_tokens, testing::ElementsAre(1, 2));
  EXPECT_TRUE(Weights::load(**source));
}

}  // namespace
}  // namespace larder
