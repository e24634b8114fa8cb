#include "larder/options.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <type_traits>

namespace larder {
namespace {

template <class F>
std::string refusal(F change) {
  EngineOptions o;
  change(o);
  const auto result = validate(o);
  return result ? "accepted" : result.error().message;
}

TEST(EngineOptions, DefaultsAreValid) {
  EXPECT_EQ(refusal([](EngineOptions&) {}), "accepted");
}

TEST(EngineOptions, RulesNameFieldAndValue) {
  using O = EngineOptions;
  EXPECT_EQ(refusal([](O& o) { o.kv.block_tokens = 24; }),
            "block-size must be a power of two, not 24");
  EXPECT_EQ(refusal([](O& o) { o.kv.block_tokens = 8; }),
            "block-size must be from 16 to 128, not 8");
  EXPECT_EQ(refusal([](O& o) { o.n_sequences = 0; }), "parallel must be from 1 to 4096, not 0");
  EXPECT_EQ(refusal([](O& o) { o.n_batch = 0; }), "ubatch-size must be from 1 to 65536, not 0");
  EXPECT_EQ(refusal([](O& o) { o.n_threads = 5000; }), "threads must be from 0 to 1024, not 5000");
  EXPECT_EQ(refusal([](O& o) { o.isa = "sse9"; }),
            "isa must be one of scalar, avx2, avxvnni, avx512, amx, not 'sse9'");
  for (const char* name : {"f32", "f16", "bf16", "int8", "rot4"}) {
    EXPECT_EQ(refusal([&](O& o) { o.kv.type_k = o.kv.type_v = name; }), "accepted");
  }
  const std::string text = refusal([](O& o) { o.kv.type_v = "q9"; });
  EXPECT_EQ(text.find("cache-type-v must be one of "), 0U);
  EXPECT_NE(text.find("bf16"), std::string::npos);
  EXPECT_NE(text.find("not 'q9'"), std::string::npos);
  EXPECT_NE(refusal([](O& o) { o.n_context = UINT32_MAX; }).find("ctx-size"), std::string::npos);
  EXPECT_NE(refusal([](O& o) { o.kv.memory_bytes = UINT64_MAX; }).find("kv-memory"),
            std::string::npos);
}

TEST(EngineOptions, EveryFieldHasItsOwnFlagAndHelp) {
  EngineOptions o;
  std::set<std::string> flags;
  for_each_field(o, [&](const char* flag, auto& field, const char* help) {
    EXPECT_TRUE(flags.insert(flag).second) << flag;
    EXPECT_GT(std::string(help).size(), 10U) << flag;
    static_assert(std::is_lvalue_reference_v<decltype(field)>);
  });
  EXPECT_EQ(flags.size(), 16U);
}

}  // namespace
}  // namespace larder
