// What `larder bench` measures: the combinations of its flags, as a list of cases.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "larder/options.h"
#include "larder/result.h"

namespace larder {

/// The flags, lists not yet combined.
struct BenchFlags {
  EngineOptions engine;
  std::vector<std::uint32_t> n_prompt = {512}, n_gen = {128}, depth = {0}, n_parallel = {1};
  std::vector<std::pair<std::uint32_t, std::uint32_t>> prompt_gen;  // -pg
  std::vector<std::uint32_t> n_threads = {0};
  std::vector<std::string> type_k = {"bf16"}, type_v = {"bf16"};
  bool shared_prefix = false;
  bool quick_depth = false;
  std::uint32_t n_repetitions = 5;
};

/// One row of the table: `n_parallel` sequences that hold `depth` tokens each take `n_prompt` more
/// and generate `n_gen`.
struct BenchCase {
  EngineOptions engine;  // with everything resolved that the flags say
  std::uint32_t n_prompt = 0, n_gen = 0, depth = 0, n_parallel = 1;
  bool shared_prefix = false;  // the sequences hold the same rows of depth
  bool quick_depth = false;    // most rows of depth are repeated, not computed

  /// "pp512", "tg128@d4096 x16", "pp512+tg128": x is the number of sequences;
  /// "tg16@d2048 x16 shared" when their depth is one prefix.
  std::string name() const;
  /// Tokens a sequence takes in before the first is drawn: one at least, as something must be.
  std::uint32_t n_new_prompt() const { return n_prompt == 0 ? 1 : n_prompt; }
  /// Tokens counted for the rate, of all sequences.
  std::uint64_t n_counted() const { return std::uint64_t{n_parallel} * (n_prompt + n_gen); }
};

/// Cases that share an engine stand together. Errors: invalid_argument (nothing to measure, more
/// than 1024 sequences or 1000 repetitions, tokens beyond 2^24, a case that the given context
/// cannot hold).
Result<std::vector<BenchCase>> bench_cases(const BenchFlags& flags);

}  // namespace larder
