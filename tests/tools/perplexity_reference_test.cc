// The perplexity of the embedded model agrees with an independent implementation. The expected
// values are what tests/fixtures/reference_perplexity.py (PyTorch, sentencepiece) prints for
// tests/data/perplexity/story.txt and the llama2.c file that models/stories260K.gguf was made of.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

#include "perplexity.h"

namespace larder {
namespace {

struct Case {
  std::uint32_t n_context, stride;
  const char* cache_type;
  double expected;   // perplexity
  double tolerance;  // relative; a bf16 cache rounds to 8 bits, queries and weights too in avx512
};

/// For the names of the tests, which would hold addresses otherwise.
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.cache_type << " in windows of " << c.n_context;
}

class PerplexityReference : public testing::TestWithParam<Case> {};

TEST_P(PerplexityReference, AgreesWithTheIndependentImplementation) {
  const Case& c = GetParam();
  EngineOptions options;
  options.model_path = std::string(LARDER_MODELS_DIR) + "/stories260K.gguf";
  options.n_context = c.n_context;
  options.n_sequences = 3;
  options.n_batch = 100;
  options.kv.type_k = options.kv.type_v = c.cache_type;
  auto engine = Engine::open(options);
  ASSERT_TRUE(engine) << engine.error().message;
  std::ifstream file(std::string(LARDER_TEST_DATA) + "/perplexity/story.txt");
  std::ostringstream text;
  text << file.rdbuf();
  const auto result = measure_perplexity(
      **engine, text.str(), PerplexityOptions{c.n_context, c.stride, 0, 3}, [](double, double) {});
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->n_scored_tokens, 470U);
  EXPECT_EQ(result->n_scored_bytes, text.str().size());
  EXPECT_NEAR(result->perplexity() / c.expected, 1.0, c.tolerance);
}

constexpr double kOneWindow = 4.346616596881452;
constexpr double kSliding = 4.6076323836924225;
INSTANTIATE_TEST_SUITE_P(Stories, PerplexityReference,
                         testing::Values(Case{512, 256, "f32", kOneWindow, 1e-5},
                                         Case{128, 64, "f32", kSliding, 1e-5},
                                         Case{512, 256, "f16", kOneWindow, 1e-3},
                                         Case{512, 256, "bf16", kOneWindow, 4e-3},
                                         Case{128, 64, "bf16", kSliding, 4e-3}));

}  // namespace
}  // namespace larder
