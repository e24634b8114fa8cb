// What does it cost to keep a text to a JSON schema?
//   build/release/bin/grammar_bench --vocab=model.gguf
// `compile` is a schema of some twenty fields; `first_open` finds the tokens that are open inside a
// string, the largest such set, with nothing remembered; `known_open` again, remembered; `text` is
// a whole object written token by token, all remembered, per token.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "engine/grammar_store.h"
#include "model/io/model_source.h"

namespace {

using larder::Grammar;
using larder::GrammarMatcher;

std::unique_ptr<larder::Tokenizer> tokenizer;

std::string schema() {
  std::string properties;
  for (int i = 0; i < 20; ++i) {
    properties +=
        fmt::format("{}\"field{}\":{}", i > 0 ? "," : "", i,
                    i % 2 == 0 ? R"({"type":"string"})" : R"({"type":"array","items":{}})");
  }
  return fmt::format(R"({{"type":"object","additionalProperties":false,"properties":{{{}}}}})",
                     properties);
}

std::shared_ptr<const Grammar> make_grammar(const larder::GrammarStore& store, int number) {
  auto grammar = store.json(schema(), {std::to_string(number), ""});
  if (!grammar) std::abort();
  return *grammar;
}

void enter(GrammarMatcher& matcher, const std::string& text) {
  for (const larder::TokenId id : tokenizer->encode(text, {.add_special = false})) {
    matcher.accept(id);
  }
}

void compile(benchmark::State& state) {
  const larder::GrammarStore store(*tokenizer, tokenizer->n_vocab());
  int number = 0;
  for (auto _ : state) benchmark::DoNotOptimize(make_grammar(store, ++number));
}

void first_open(benchmark::State& state) {
  const larder::GrammarStore store(*tokenizer, tokenizer->n_vocab());
  int number = 0;
  for (auto _ : state) {
    state.PauseTiming();
    GrammarMatcher matcher(make_grammar(store, ++number));
    enter(matcher, std::to_string(number) + "{\"field0\": \"abc");
    state.ResumeTiming();
    benchmark::DoNotOptimize(&matcher.next_tokens(true));
  }
}

void known_open(benchmark::State& state) {
  const larder::GrammarStore store(*tokenizer, tokenizer->n_vocab());
  GrammarMatcher matcher(make_grammar(store, 1));
  enter(matcher, "1{\"field0\": \"abc");
  for (auto _ : state) benchmark::DoNotOptimize(&matcher.next_tokens(true));
}

void text(benchmark::State& state) {
  const larder::GrammarStore store(*tokenizer, tokenizer->n_vocab());
  const auto grammar = make_grammar(store, 1);
  const auto tokens = tokenizer->encode(
      R"(1{"field0": "a few words and no more", "field3": [1, {"x": null}], "field8": "end"})",
      {.add_special = false});
  for (auto _ : state) {
    GrammarMatcher matcher(grammar);
    for (const larder::TokenId id : tokens) {
      benchmark::DoNotOptimize(&matcher.next_tokens(true));
      matcher.accept(id);
    }
  }
  state.counters["per_token"] = benchmark::Counter(
      static_cast<double>(tokens.size()),
      benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

BENCHMARK(compile)->Unit(benchmark::kMicrosecond);
BENCHMARK(first_open)->Unit(benchmark::kMicrosecond);
BENCHMARK(known_open)->Unit(benchmark::kMicrosecond);
BENCHMARK(text)->Unit(benchmark::kMicrosecond);

}  // namespace

int main(int argc, char** argv) {
  std::string path = "models/larder-4m.gguf";
  constexpr const char* kFlag = "--vocab=";
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], kFlag, std::strlen(kFlag)) == 0) path = argv[i] + std::strlen(kFlag);
  }
  auto source = larder::open_model(path, {.vocab_only = true});
  if (!source) std::abort();
  auto created = larder::Tokenizer::create((*source)->tokenizer());
  if (!created) std::abort();
  tokenizer = std::move(*created);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
