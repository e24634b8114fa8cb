// The engine: requests in, tokens out.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "larder/options.h"
#include "larder/result.h"

namespace larder {

class Grammar;
class ModelSource;
class Tokenizer;
struct ModelConfig;
struct GenerationDefaults;

/// As in llama.cpp and vLLM. Order of work: penalties, bias, (greedy: arg max), temperature, top-k,
/// top-p, min-p, draw. Neutral values switch a step off.
struct SamplingOptions {
  float temperature = 0.8F;         // 0: greedy
  std::uint32_t top_k = 40;         // 0: off
  float top_p = 0.95F;              // 1: off
  float min_p = 0.05F;              // 0: off
  float repetition_penalty = 1.0F;  // 1: off; divides positive logits, multiplies negative ones
  float presence_penalty = 0.0F;
  float frequency_penalty = 0.0F;
  std::uint32_t penalty_window = 64;  // newest tokens that count for the repetition penalty
  std::vector<std::pair<std::int32_t, float>> logit_bias;
  std::uint64_t seed = 0;  // the same seed and prompt give the same text, whatever runs beside
};

using RequestId = std::uint64_t;

/// What the model expected in the place of a prompt token.
struct PromptLogits {
  std::int32_t token;             // that stands there
  std::span<const float> logits;  // [n_vocab]; gone when the call returns
};

/// What becomes of the hidden states of a prompt's tokens, behind the last norm.
enum class Pooling : std::uint8_t {
  none,  // the prompt is continued
  mean,  // over all tokens
  last   // of the last token
};

struct Request {
  std::vector<std::int32_t> prompt;
  std::uint32_t max_tokens = 0;  // 0: until the context is full
  std::uint32_t n_samples = 1;   // continuations of one prompt; they share its blocks
  SamplingOptions sampling;
  /// What the text must look like: of this engine's json_grammar. Null: anything. Owners: those who
  /// ask.
  std::shared_ptr<const Grammar> grammar;
  std::vector<std::string> stop;  // text that ends a continuation and is not returned
  bool ignore_eos = false;
  std::int32_t n_logprobs = -1;  // -1: none; 0: of the chosen token; k: of the k best too
  bool prompt_logprobs = false;  // log-probabilities of prompt tokens: all but the first, or
  std::uint32_t prompt_logprobs_begin = 1;  // those from this place on
  /// With prompt_logprobs: hears of every prompt token that is scored, in order and once each,
  /// during `step` and on its thread. Must not call the engine.
  std::function<void(const PromptLogits&)> prompt_logits;
  /// An embedding instead of a continuation: one event without a token. Excludes further samples
  /// and prompt_logprobs. With `mean` nothing cached is used: every row is wanted.
  Pooling pooling = Pooling::none;
  bool keep_cache = false;  // keep sample 0's rows after the end, until `release`
  /// A kept request whose common prefix is shared; 0: none. Without effect when that cache is gone
  /// by the time this request starts (see EngineStats::n_reused_tokens). With prompt_logprobs only
  /// rows are shared whose predictions are not asked for: those before prompt_logprobs_begin - 1.
  RequestId reuse = 0;
  /// Under a policy by which tokens choose what they read (quest, infllm): of the prompt, so many
  /// first tokens read as prompts do, the others as generated ones.
  std::uint32_t n_read_in_full = UINT32_MAX;
  /// Which of its cached rows stay, as KvOptions::policy (methods and parameters, no files) and
  /// ::keep say it; "none" or "full": all of them. Without, or without one of the two: the engine's
  /// own. Of so many bytes at most. What reads in part (quest, infllm) is the engine's alone.
  std::optional<std::string> kv_policy, kv_keep;
  static constexpr std::size_t kMaxPolicyBytes = 256, kMaxKeepBytes = 32;
  std::int32_t priority = 0;  // lower goes first; when blocks run out, the highest yield first
  std::string cache_salt;     // requests share cached prefixes with those of the same salt only
};

/// Requests of the same priority go in order of arrival. One that has been overtaken this often
/// counts as one priority better, and so on: late, never lost.
inline constexpr std::uint32_t kOvertakings = 8;

enum class FinishReason : std::uint8_t { none, stop, length, cancelled };

struct TokenLogprob {
  std::int32_t token;
  float logprob;  // natural log of the model's own distribution, before temperature
};

/// What is cached of a sequence at its end.
struct CacheUsage {
  std::uint32_t n_tokens = 0;  // whose rows were computed, or found in the cache
  double n_kept_tokens = 0;    // of these, whose rows are there: mean over layers and KV heads
  std::uint64_t bytes = 0;     // of all blocks that it refers to, shared ones in full
};

/// One sampled token, or (with `prompt_logprobs`) news of the prompt.
struct TokenEvent {
  RequestId request = 0;
  std::uint32_t sample = 0;
  std::int32_t token = -1;  // -1: no token in this event
  std::string text;         // valid UTF-8, may be empty while a character is incomplete
  std::optional<TokenLogprob> logprob;
  std::vector<TokenLogprob> top;      // best first
  std::vector<TokenLogprob> prompt;   // prompt tokens scored in this step, in order
  std::vector<float> embedding;       // with `pooling`: [n_embd], of length 1 (0 where all are 0)
  std::uint32_t n_reused_tokens = 0;  // of the prompt, found in the cache
  FinishReason finish = FinishReason::none;
  std::optional<CacheUsage> cache;  // with `finish`, when the sequence ended by itself
};

struct StepReport {
  std::uint32_t n_prefill_tokens = 0, n_decode_tokens = 0;
  std::vector<TokenEvent> events;
};

struct EngineStats {
  std::uint64_t kv_bytes = 0, kv_peak_bytes = 0, kv_budget_bytes = 0;
  std::uint32_t n_running = 0, n_waiting = 0;  // sequences
  std::uint32_t n_running_requests = 0;        // of which at least one sequence runs
  std::uint64_t n_prefill_tokens = 0, n_decode_tokens = 0, n_reused_tokens = 0;
  double prefill_seconds = 0, decode_seconds = 0;  // mixed steps count by their rows
  std::uint64_t n_preempted = 0;
  /// How long the blocks of a layer for one run of tokens were in use: how many less than 2^i
  /// milliseconds and at least half of that. The last also those that lived longer.
  std::array<std::uint64_t, 24> kv_lifetimes{};
  double kv_lifetime_seconds = 0;  // of all together
};

/// How much of a request's prompt was cached when it started, and why not more.
struct PrefixReport {
  RequestId request = 0;
  std::uint32_t n_prompt_tokens = 0, n_cached_tokens = 0;
  /// covered, new_salt, unseen, differs, evicted, dropped, window, sealed, policy: see
  /// docs/server.md.
  std::string_view reason;
  std::int32_t token = -1, cached_token = -1;  // at the first place that is not cached; -1: none
  std::string format;                          // in which rows are stored
  std::string policy;                          // "knorm, 512 rows kept", "none"
  CacheUsage usage;                            // of sample 0, now or at its end
  std::uint64_t step = 0;                      // of the engine, in which the request was admitted
  struct Gone {
    std::uint64_t step;    // in which, or after which, it went
    double seconds_ago;    // before the request was admitted
    RequestId by_request;  // whose rows took its place; 0 when it was dropped
  };
  std::optional<Gone> gone;  // with evicted and dropped
};

/// The cache as people would look at it. Costs a walk over all of it.
struct CacheView {
  struct Layers {  // neighbours that are alike
    std::uint32_t first_layer = 0, n_layers = 0;
    std::uint32_t n_blocks = 0;  // of one layer, all KV heads
    std::uint32_t n_shared = 0;  // of those, what others refer to as well
    std::uint64_t bytes = 0;     // of one layer
  };
  struct Blocks {              // of one size; each live block is counted once
    std::string format;        // or, where several have blocks of this size, all of them
    std::uint64_t bytes = 0;   // of a block
    std::size_t n_open = 0;    // being filled by the one sequence that refers to it
    std::size_t n_sealed = 0;  // full, of one sequence
    std::size_t n_shared = 0;  // of several, the prefix tree counted as one
    std::size_t n_kept = 0;    // of the prefix tree alone, or of one compressed beginning
    std::size_t n_free = 0;    // that could be had now if no others were taken
  };
  struct Sequence {
    RequestId request = 0;
    std::uint32_t sample = 0;
    std::string_view state;  // waiting, prefill, decode
    std::uint32_t n_prompt_tokens = 0, n_tokens = 0, n_rows = 0, n_reused_tokens = 0;
    std::string policy;  // "knorm, 512 rows kept", "none"
    std::vector<Layers> layers;
  };
  std::vector<Sequence> sequences;
  std::vector<Blocks> blocks;
  std::uint64_t bytes = 0, budget_bytes = 0, peak_bytes = 0;
  std::uint32_t block_tokens = 0;
  std::string format;
  bool prefix_caching = false;
  // Of the prefix tree: stripes are the blocks of all layers for block_tokens tokens.
  std::size_t n_stripes = 0, n_pinned_stripes = 0, n_salts = 0;
  std::string policy;            // of requests that name none, as of a sequence
  std::size_t n_policies = 0;    // others that are remembered
  std::size_t n_compressed = 0;  // beginnings of which a policy has dropped rows, beside the tree
  std::uint64_t tree_bytes = 0, idle_bytes = 0;  // in all; of those, what only the tree refers to
  std::uint64_t n_evicted = 0, n_dropped = 0, n_deduplicated_blocks = 0;
  std::uint32_t longest_prefix = 0;
};

/// Not thread-safe: one thread submits and steps.
class Engine {
 public:
  /// Progress of loading, 0..1; may be empty.
  using Progress = std::function<void(float)>;
  /// Errors: those of the model file; invalid_argument with the arithmetic shown when the memory
  /// budget cannot hold the requested context; unsupported combinations with the reason.
  static Result<std::unique_ptr<Engine>> open(const EngineOptions& options,
                                              const Progress& progress = {});
  /// The same over an already opened model (shared with inspection, tests).
  static Result<std::unique_ptr<Engine>> open(std::unique_ptr<ModelSource> source,
                                              const EngineOptions& options);
  ~Engine();

  /// Errors: invalid_argument (empty prompt, token out of range, prompt longer than the context,
  /// sampling values, a policy that makes no sense or whose rows the budget cannot hold), with the
  /// values; unsupported (a policy that formats or model do not go with); unavailable (no memory
  /// for what a policy has to count).
  Result<RequestId> submit(Request request);
  /// One forward pass over what is ready: see docs/architecture.md. Empty report when idle.
  /// Errors: corrupt when the model computes no numbers (damaged weights); the requests of the step
  /// are dropped then.
  Result<StepReport> step();
  /// The same into `report`, whatever it holds, so that its memory serves every step: decoding
  /// without log-probabilities or penalties then allocates nothing.
  Result<void> step(StepReport& report);
  bool idle() const;
  /// Keeps what is generated to JSON that satisfies a JSON Schema (grammar/json_schema.h says which
  /// of them), between the two texts. A text that max_tokens cuts off finishes with `length`, as
  /// does one that cannot go on (before a character that the vocabulary cannot write). The last
  /// grammars are remembered. May be called from any thread, while another steps.
  /// Errors: invalid_argument, unsupported (a keyword; a vocabulary without some byte), unavailable
  /// (the grammars that are in use take too much).
  Result<std::shared_ptr<const Grammar>> json_grammar(std::string_view schema,
                                                      std::string_view prefix = {},
                                                      std::string_view suffix = {}) const;
  void cancel(RequestId id);   // its blocks are free at once; no further events
  void release(RequestId id);  // drops a kept cache
  /// For measuring speed at a depth without computing it: the kept cache of `id` becomes one of
  /// `tokens` by repeating its blocks. What is generated from it means nothing.
  /// Errors: invalid_argument (no such cache, one that is no whole number of blocks or longer than
  /// `tokens`, more tokens than the context); unavailable when blocks run out.
  Result<void> stretch_kept(RequestId id, std::vector<std::int32_t> tokens);

  // With KvOptions::prefix_caching; else there are no prefixes to speak of.
  /// Of one of the last 256 requests that started.
  std::optional<PrefixReport> prefix_report(RequestId id) const;
  /// Whole blocks of the cached beginning of `tokens` stay in memory until unpinned as often.
  /// Returns their tokens, 0 when nothing is cached. Errors: invalid_argument when the pinned would
  /// leave less than a sequence of the full context needs.
  Result<std::uint32_t> pin_prefix(std::span<const std::int32_t> tokens, std::string_view salt);
  std::uint32_t unpin_prefix(std::span<const std::int32_t> tokens, std::string_view salt);
  /// Forgets what is cached behind `tokens` and them too, as far as nothing else begins alike;
  /// pinned blocks stay. Returns the blocks' runs that were forgotten.
  std::size_t drop_prefix(std::span<const std::int32_t> tokens, std::string_view salt);
  CacheView cache_view() const;

  /// From the next step on, hears of what each layer's attention reads: rows [n_rows, n_embd]
  /// behind the norm, during `step` and on its thread, gone when the call returns. Empty: nobody
  /// hears.
  void observe_attention(
      std::function<void(std::uint32_t layer, std::span<const float> rows)> observer);
  /// The same of the keys that each layer caches, as they are before rope: rows [n_rows,
  /// n_kv_heads, head_dim]. Not with latent attention.
  void observe_keys(std::function<void(std::uint32_t layer, std::span<const float> rows)> observer);

  const Tokenizer& tokenizer() const;
  const ModelConfig& config() const;
  const GenerationDefaults& generation_defaults() const;
  const EngineOptions& options() const;  // with defaults resolved: context, threads, budget
  EngineStats stats() const;
  /// What really runs: "avx512, 2 threads, K bf16, V bf16, 32-token blocks, 1.0 GiB KV budget,
  /// ...".
  std::string description() const;
  std::uint64_t kv_bytes_per_token() const;  // at full blocks, all layers

 private:
  struct Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace larder
