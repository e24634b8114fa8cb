// The models of schedule_test.cc.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>

#include "engine/fitted_keys.h"
#include "engine/fixture_source.h"
#include "larder/engine.h"
#include "model/scratch_dir.h"
#include "model/small_random_model.h"

namespace larder::schedule {

/// The embedded model, models whose layers have sliding windows of 24 tokens, some or all, one
/// whose layers share K and V, ones with latent attention, whose prompts are long enough for rows
/// of both forms, random ones of each type whose weights are packed, and sealed formats of K and V,
/// or of latents and their keys, in some of them other ones in each layer, and policies that drop
/// rows.
struct Model {
  const char* name;
  std::uint32_t n_vocab;
  std::uint32_t n_context = 160;
  std::uint32_t max_prompt = 100;
  const char* k = "bf16";
  const char* v = "bf16";
  const char* layers = "";
  const char* policy = "";
  const char* keep = "";
  std::uint32_t raw_blocks = 0;
};
inline std::ostream& operator<<(std::ostream& out, const Model& model) {
  out << model.name << "_" << model.k << "_" << model.v << (*model.layers ? "_mixed" : "");
  for (const char* c = model.policy; *c != 0 && *c != ':'; ++c) {
    out << (c == model.policy ? "_" : "") << (*c == '-' ? '_' : *c);
  }
  return out;
}
inline constexpr Model kStories{"stories260K", 512};
inline constexpr Model kMistral{"mistral", 80};
inline constexpr Model kGemma3{"gemma3", 80};
inline constexpr Model kCla{"larder_cla", 80};
inline constexpr Model kLatent{"deepseek2_dense", 80, 640, 340};
inline constexpr Model kExperts{"deepseek2_moe", 80, 640, 340};
inline constexpr Model kQ8{"q8_0", 512}, kQ4{"q4_0", 512}, kBf16{"bf16", 512};
inline constexpr Model kExpertsQ8{"experts_q8_0", 512, 640, 340};
inline constexpr Model kExpertsBf16{"experts_bf16", 512, 640, 340};
inline constexpr Model kLatentSealed{"experts_bf16", 512, 640, 340, "bf16", "rot4"};
inline constexpr Model kLatentMixed{"experts_q8_0", 512, 640, 340, "rot3", "int8",
                                    "1:kivi4/rot2", "",  "",  1};
inline constexpr Model kRotated{"gemma2", 80, 160, 100, "rot4", "int8", "", "", "", 1};
inline constexpr Model kMixed{"gemma2", 80, 160, 130, "f16", "rot4", "1:fp8/rot2"};
inline constexpr Model kInt8{"phi3_long", 80, 160, 100, "int8", "int8"};
inline constexpr Model kKivi8{"phi3_long", 80, 160, 100, "kivi8", "int8"};
inline constexpr Model kInt4{"bf16", 512, 160, 100, "rot4", "int4", "", "", "", 2};
inline constexpr Model kClaSealed{"cla_bf16", 512, 160, 100, "int8", "rot4"};
inline constexpr Model kRawLayer{"phi3_long", 80, 160, 100, "bf16", "bf16", "1:rot4/int8"};
// Keys as they were before rope: of adjacent pairs, of halves, of half the channels with an
// amplitude, behind windows, and rows that two layers read.
inline constexpr Model kTurned{"bf16", 512, 160, 100, "kvq4o", "rot4", "", "", "", 1};
inline constexpr Model kTurnedHalf{"phi3_long", 80, 160, 100, "kvq2o", "bf16"};
inline constexpr Model kTurnedWindows{"gemma2", 80, 160, 130, "kvq4", "int8", "1:kvq2/kivi4"};
inline constexpr Model kTurnedCla{"cla_bf16", 512, 160, 100, "kvq4", "f16"};
inline constexpr Model kTurnedWide{"wide_bf16", 512, 160, 100, "kvq3", "int4", "1:kvq3o/rot4"};
inline constexpr Model kStreaming{
    "stories260K", 512, 160, 100, "bf16", "bf16", "", "streaming-llm:every=16", "40"};
inline constexpr Model kSealedStreaming{
    "bf16", 512, 160, 100, "rot4", "int4", "", "streaming-llm:sinks=16,every=32", "48"};
// One block of sinks raw, one sealed.
inline constexpr Model kRawSinks{
    "bf16", 512, 160, 100, "kivi8", "kivi4", "", "streaming-llm:sinks=32,every=16", "64", 1};
inline constexpr Model kWindow{"bf16", 512, 160, 100, "f16", "f32", "", "window:every=0", "0.3"};
inline constexpr Model kKeysKept{
    "gemma3", 80, 160, 100, "bf16", "bf16", "", "knorm:sinks=2,recent=5,every=24", "0.4"};
inline constexpr Model kSpreadKept{
    "cla_bf16", 512, 160, 100, "f32", "bf16", "", "keydiff:recent=6,every=10", "50"};
inline constexpr Model kHeavy{"stories260K",  512, 160, 100, "bf16", "bf16", "",
                              "h2o:every=20", "30"};
inline constexpr Model kLastQuery{"bf16", 512, 160, 100, "bf16", "f16", "", "tova:sinks=1,every=17",
                                  "0.4"};
inline constexpr Model kObserved{
    "gemma2", 80, 160, 100, "f32", "bf16", "", "snapkv:recent=8,window=8,every=40", "0.35"};
inline constexpr Model kExpected{
    "q8_0", 512, 160, 100, "bf16", "bf16", "", "expected-attention:recent=6,every=30", "36"};
inline constexpr Model kSplit{
    "bf16", 512, 160, 100, "bf16", "bf16", "", "ada-snapkv:recent=8,window=8,every=20", "30"};
inline constexpr Model kSplitExpected{
    "gemma3", 80, 160, 100, "bf16", "bf16", "", "ada-expected-attention:recent=6,every=24", "0.4"};
inline constexpr Model kSplitShared{
    "cla_bf16", 512, 160, 100, "bf16", "bf16", "", "ada-snapkv:recent=4,window=3,every=0", "0.3"};
inline constexpr Model kPyramid{
    "cla_bf16", 512, 160, 100, "bf16", "bf16", "", "pyramidkv:recent=7,window=4,beta=4,every=25",
    "26"};
inline constexpr Model kCapped{
    "q4_0", 512, 160, 100, "bf16", "f16", "", "lm-infinite:sinks=3,every=16", "40"};
inline constexpr Model kSealedCapped{
    "bf16", 512, 160, 100, "rot4", "int4", "", "lm-infinite:sinks=16,every=32", "48"};
inline constexpr Model kUnimportant{
    "stories260K", 512, 160, 100, "bf16", "bf16", "", "scissorhands:window=20,every=33", "30"};
inline constexpr Model kNoisy{"gemma3", 80, 160, 100, "bf16", "bf16", "", "keyformer:every=24",
                              "0.4"};
inline constexpr Model kRising{
    "cla_bf16", 512, 160, 100, "bf16", "f16", "", "pyramidinfer:recent=6,window=9,every=25", "28"};
// Kept rows take up dropped ones.
inline constexpr Model kSharedOut{"bf16", 512, 160, 100, "bf16", "f16", "", "cam:every=22", "30"};
inline constexpr Model kJoined{"gemma3", 80, 160, 100, "bf16", "bf16", "", "d2o:every=27", "0.4"};
inline constexpr Model kRuns{"bf16", 512, 160, 100, "bf16", "f16", "", "kvmerger:recent=3", "0.3"};
inline constexpr Model kRunsLong{
    "phi3_long", 80, 160, 100, "f32", "bf16", "", "kvmerger:recent-percent=10", "20"};
// Rows of latents.
inline constexpr Model kLatentWindow{"deepseek2_dense",         80,   640, 340, "bf16", "bf16", "",
                                     "window:sinks=3,every=64", "150"};
inline constexpr Model kLatentLots{
    "experts_bf16", 512, 640, 340, "f16", "bf16", "", "random:sinks=2,recent=20,every=0", "0.4"};
// Single rows of sealed blocks go.
inline constexpr Model kSealedNorms{
    "bf16", 512, 160, 100, "rot4", "int8", "", "knorm:sinks=3,recent=6,every=24", "40"};
inline constexpr Model kSealedWindows{
    "gemma2", 80, 160, 100, "int8", "fp8", "", "keydiff:sinks=16,recent=5,every=0", "0.4", 1};
inline constexpr Model kSealedExpected{
    "q8_0", 512, 160, 100, "rot2", "int4", "1:bf16/rot4", "expected-attention:recent=6,every=30",
    "36"};
inline constexpr Model kSealedLots{
    "cla_bf16", 512, 160, 100, "fp8", "f16", "", "random:recent=1,every=33", "29"};
inline constexpr Model kSealedHeavy{"phi3_long",    80,  160, 100, "int8", "rot4", "",
                                    "h2o:every=20", "30"};
inline constexpr Model kSealedWindow{
    "bf16", 512, 160, 100, "rot8", "rot2", "", "snapkv:sinks=32,recent=8,window=8,every=40",
    "50",   2};
inline constexpr Model kSealedPyramid{
    "cla_bf16", 512,    160,         100,
    "f16",      "int8", "0:fp8/fp8", "pyramidinfer:recent=6,window=9,every=17",
    "48"};
// The prompt is read again, in parts.
inline constexpr Model kReread{
    "stories260K", 512, 160, 100, "bf16", "bf16", "", "kvzip:sinks=1,recent=5,chunk=20", "0.4"};
inline constexpr Model kRereadWindows{
    "gemma3", 80, 160, 100, "f32", "bf16", "", "kvzip:sinks=2,recent=3,chunk=9", "24"};
inline constexpr Model kRereadShared{
    "cla_bf16", 512, 160, 100, "bf16", "f16", "", "kvzip:floor-percent=50,recent=4,chunk=33", "30"};
// Heads keep the rows of the pattern that is enough for them.
inline constexpr Model kPatterns{
    "stories260K", 512, 160, 100, "bf16", "bf16", "", "fastgen:recover-percent=60", "0.2"};
inline constexpr Model kPatternsShared{
    "cla_bf16", 512, 160, 100, "f32", "bf16", "", "fastgen:recover-percent=80,sinks=2,recent=3",
    "20"};
// Each head has a budget of its own; some keep everything.
inline constexpr Model kByFile{"stories260K",
                               512,
                               160,
                               100,
                               "bf16",
                               "bf16",
                               "",
                               "keydiff:recent=5,every=26,heads=" LARDER_TEST_DATA
                               "/policy/heads_5x4.tsv",
                               "30"};
inline constexpr Model kClasses{"stories260K",
                                512,
                                160,
                                100,
                                "bf16",
                                "f16",
                                "",
                                "duo-attention:sinks=3,every=20,heads=" LARDER_TEST_DATA
                                "/policy/heads_5x4.tsv",
                                "28"};
// Nothing is dropped, but not everything is read.
inline constexpr Model kQuest{"stories260K",         512, 160, 100, "bf16", "bf16", "",
                              "quest:full-layers=1", "48"};
inline constexpr Model kQuestShare{
    "cla_bf16", 512, 160, 100, "f32", "f16", "", "quest:full-layers=1", "0.4"};
inline constexpr Model kQuestSealed{
    "bf16", 512, 160, 100, "rot4", "int4", "", "quest:full-layers=0", "64", 1};
inline constexpr Model kQuestMixed{
    "gemma2", 80, 160, 130, "f16", "rot4", "1:fp8/rot2", "quest:full-layers=0", "50"};
inline constexpr Model kQuestWindows{
    "gemma3", 80, 160, 100, "bf16", "bf16", "", "quest:full-layers=0", "0.3"};
inline constexpr Model kRetrieved{
    "stories260K", 512, 160, 100, "bf16", "bf16", "", "infllm:sinks=16,recent=16", "64"};
inline constexpr Model kRetrievedSealed{
    "bf16", 512, 160, 100, "rot4", "int4", "", "infllm:sinks=3,recent=16,representatives=1",
    "70",   1};
inline constexpr Model kRetrievedShare{
    "cla_bf16", 512, 160, 100, "f32", "f16", "", "infllm:sinks=0,recent=9,full-layers=1", "0.4"};
inline constexpr Model kLotsKept{
    "bf16", 512, 160, 100, "bf16", "bf16", "", "random:recent=1,every=33", "29"};

inline ModelConfig random_config(std::string_view kind) {
  if (kind == "experts") return small_experts_config();
  ModelConfig config = small_dense_config();
  if (kind == "shallow") config.n_layers = 1;
  if (kind == "wide") {
    config.n_embd = 128;
    config.head_dim = config.rope.n_rot = 32;
  }
  if (kind == "cla") {
    config.arch = "larder_cla";
    config.n_layers = 4;
    config.kv_owner = {0, 0, 2, 2};
  }
  return config;
}

inline std::string model_path(const Model& model) {
  static const ScratchDir random_models;
  const std::string_view name = model.name;
  for (const std::string_view kind : {"experts", "cla", "shallow", "wide", ""}) {
    if (!name.starts_with(kind)) continue;
    const auto type = parse_dtype(name.substr(kind.empty() ? 0 : kind.size() + 1));
    if (!type) continue;
    const std::string path = random_models.path(fmt::format("{}.gguf", model.name));
    if (std::filesystem::exists(path)) return path;
    EXPECT_TRUE(write_random_model(random_config(kind), *type, path));
    return path;
  }
  if (std::string_view(model.name) == kStories.name) {
    return fmt::format("{}/stories260K.gguf", LARDER_MODELS_DIR);
  }
  return fmt::format("{}/models/{}", LARDER_TEST_DATA, model.name);
}

inline std::unique_ptr<Engine> open_engine(const EngineOptions& options) {
  auto engine =
      options.model_path.ends_with(".gguf") ? Engine::open(options) : open_fixture(options);
  EXPECT_TRUE(engine.has_value()) << engine.error().message;
  return engine ? std::move(*engine) : nullptr;
}

/// What formats of keys before rope need, from random tokens.
inline std::string calibration_path(const Model& model) {
  static const ScratchDir files;
  const std::string name = fmt::format("{}.keys", model.name);
  if (std::filesystem::exists(files.path(name))) return files.path(name);
  EngineOptions options;
  options.model_path = model_path(model);
  options.n_context = model.n_context;
  options.n_threads = 1;
  files.write(name, key_calibration_text(fitted_keys(*open_engine(options))));
  return files.path(name);
}

inline EngineOptions base_options(const Model& model = kStories) {
  EngineOptions options;
  options.model_path = model_path(model);
  options.n_context = model.n_context;
  options.n_threads = 1;
  options.kv.block_tokens = 16;
  options.kv.type_k = model.k;
  options.kv.type_v = model.v;
  options.kv.layers = model.layers;
  options.kv.raw_blocks = model.raw_blocks;
  options.kv.policy = model.policy;
  options.kv.keep = model.keep;
  if (std::string_view(model.k).starts_with("kvq")) {
    options.kv.calibration = calibration_path(model);
  }
  return options;
}

}  // namespace larder::schedule
