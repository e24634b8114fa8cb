#include "engine/kv_formats.h"

#include <gtest/gtest.h>

#include "engine/fixture_source.h"
#include "engine/kv_plan.h"
#include "larder/engine.h"
#include "model/small_random_model.h"

namespace larder {
namespace {

KvOptions options(const char* k, const char* v, const char* layers) {
  KvOptions o;
  o.type_k = k;
  o.type_v = v;
  o.layers = layers;
  return o;
}

std::string text_of(const KvOptions& o, std::uint32_t n_layers) {
  const auto formats = layer_formats(o, n_layers);
  return formats ? formats_text(*formats) : formats.error().message;
}

TEST(KvFormats, LayersOverrideTheTypes) {
  EXPECT_EQ(text_of(options("bf16", "bf16", ""), 3), "K bf16, V bf16");
  EXPECT_EQ(text_of(options("rot4", "int8", ""), 1), "K rot4, V int8");
  EXPECT_EQ(text_of(options("bf16", "bf16", "0-1:bf16,2-:rot4/int4"), 5),
            "0-1: K bf16, V bf16; 2-4: K rot4, V int4");
  EXPECT_EQ(text_of(options("rot4", "rot4", "3:f16"), 5),
            "0-2: K rot4, V rot4; 3: K f16, V f16; 4: K rot4, V rot4");
  EXPECT_EQ(text_of(options("rot4", "rot4", "2-3:int8/rot2,0:f32"), 4),
            "0: K f32, V f32; 1: K rot4, V rot4; 2-3: K int8, V rot2");
}

TEST(KvFormats, WhatIsWrongIsNamed) {
  const auto expect_error = [](const char* layers, const char* part) {
    const std::string text = text_of(options("bf16", "bf16", layers), 4);
    EXPECT_NE(text.find(part), std::string::npos) << layers << ": " << text;
    EXPECT_NE(text.find("kv-layers"), std::string::npos) << layers << ": " << text;
  };
  expect_error("0-1", "'0-1' is not RANGE:FORMAT");
  expect_error("x:bf16", "'x:bf16' is not RANGE:FORMAT");
  expect_error(":bf16", "is not RANGE:FORMAT");
  expect_error("3-2:bf16", "is not RANGE:FORMAT");
  expect_error("-2:bf16", "is not RANGE:FORMAT");
  expect_error("4294967295:bf16", "is not RANGE:FORMAT");
  expect_error("99999999999:bf16", "is not RANGE:FORMAT");
  expect_error("0:q9", "not 'q9'");
  expect_error("0:bf16/", "not ''");
  expect_error("0:bf16/f16/f16", "not 'f16/f16'");
  expect_error("0-2:bf16,2:f16", "names layer 2 again");
  expect_error("1-:bf16,3:f16", "names layer 3 again");
  expect_error("4:bf16", "layer 4, the model has 0 to 3");
  expect_error("2-7:bf16", "layer 7, the model has 0 to 3");
  EXPECT_FALSE(check_formats(options("bf16", "bf16", "0:q9")));
  EXPECT_TRUE(check_formats(options("bf16", "bf16", "70-:rot4")));
}

std::string refusal(const char* model, const KvOptions& kv) {
  EngineOptions o;
  o.model_path = std::string(LARDER_TEST_DATA "/models/") + model;
  o.n_context = 64;
  o.n_threads = 1;
  o.kv = kv;
  const auto engine = open_fixture(o);
  return engine ? "accepted" : engine.error().message;
}

TEST(KvFormats, WhatAModelCannotStoreIsRefusedAtTheStart) {
  EXPECT_EQ(refusal("gemma2", options("rot4", "rot5", "")), "accepted");
  EXPECT_NE(refusal("gemma2", options("rot5", "rot4", "")).find("K cannot be stored as rot5"),
            std::string::npos);
  EXPECT_NE(refusal("gemma2", options("rot5", "rot4", "")).find("head_dim 16"), std::string::npos);
  EXPECT_NE(refusal("mistral", options("bf16", "bf16", "1:bf16/int8"))
                .find("layer 1: V cannot be stored as int8: head_dim 8"),
            std::string::npos);
  EXPECT_NE(refusal("deepseek2_dense", options("int8", "bf16", ""))
                .find("K (the rotated key) cannot be stored as int8: head_dim 4"),
            std::string::npos);
  EXPECT_NE(refusal("deepseek2_dense", options("bf16", "rot4", ""))
                .find("V (the latent) cannot be stored as rot4: head_dim 14"),
            std::string::npos);
  EXPECT_EQ(refusal("deepseek2_dense", options("bf16", "f32", "1:f16")), "accepted");
}

TEST(KvFormats, ReadersOfSealedRowsFollowTheirOwner) {
  ModelConfig config = small_dense_config();
  config.arch = "larder_cla";
  config.n_layers = 4;
  config.kv_owner = {0, 1, 1, 0};
  EngineOptions o;
  o.n_context = 64;
  o.n_sequences = 1;
  o.kv = options("bf16", "bf16", "1:int8");
  EXPECT_TRUE(plan_kv(config, o, {}, 1 << 30));
  o.kv.layers = "0:int8";
  const auto plan = plan_kv(config, o, {}, 1 << 30);
  ASSERT_FALSE(plan);
  EXPECT_NE(plan.error().message.find("layer 3 reads the rows of layer 0"), std::string::npos);
}

TEST(KvFormats, AKeptCacheOfSealedBlocksIsStretchedToo) {
  EngineOptions o;
  o.model_path = LARDER_TEST_DATA "/models/phi3_long";
  o.n_context = 160;
  o.n_threads = 1;
  o.kv = options("int8", "rot4", "");
  o.kv.raw_blocks = 1;
  const auto engine = open_fixture(o);
  ASSERT_TRUE(engine) << engine.error().message;
  Request request;
  request.prompt.assign(64, 5);
  request.max_tokens = 1;
  request.keep_cache = true;
  ASSERT_TRUE((*engine)->submit(request));
  while (!(*engine)->idle()) ASSERT_TRUE((*engine)->step());
  ASSERT_TRUE((*engine)->stretch_kept(1, std::vector<std::int32_t>(140, 5)));  // 4 blocks, 12 rows
  request.prompt.assign(141, 5);
  request.reuse = 1;
  ASSERT_TRUE((*engine)->submit(request));
  while (!(*engine)->idle()) ASSERT_TRUE((*engine)->step());
  EXPECT_EQ((*engine)->stats().n_reused_tokens, 140U);
  EXPECT_NE((*engine)->description().find("K int8, V rot4, first 1 block raw"), std::string::npos);
}

TEST(KvFormats, BytesOfATokenAreThoseOfItsFormats) {
  EngineOptions o;
  o.model_path = LARDER_TEST_DATA "/models/phi3_long";  // 2 layers, 1 KV head of 16
  o.n_context = 320;
  o.n_threads = 1;
  o.kv = options("rot4", "int8", "1:bf16");
  const auto engine = open_fixture(o);
  ASSERT_TRUE(engine) << engine.error().message;
  Request request;
  request.prompt.assign(310, 5);  // 9 full blocks of 32 and an open one
  request.max_tokens = 1;
  request.keep_cache = true;
  ASSERT_TRUE((*engine)->submit(request));
  while (!(*engine)->idle()) ASSERT_TRUE((*engine)->step());
  const std::size_t rot4 = 320, int8 = 576, raw = 2048;  // 32 x (8 + 2), 32 x (16 + 2), bytes
  EXPECT_EQ((*engine)->stats().kv_bytes, 9 * (rot4 + int8) + raw + 10 * raw);
  EXPECT_NE((*engine)->description().find("0: K rot4, V int8; 1: K bf16, V bf16"),
            std::string::npos);
}

}  // namespace
}  // namespace larder
