// The parts of an engine and the phases of its step.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/thread_pool.h"
#include "engine/batch.h"
#include "engine/compressed_prefixes.h"
#include "engine/eviction_options.h"
#include "engine/evictor.h"
#include "engine/grammar_store.h"
#include "engine/kept_caches.h"
#include "engine/kv_plan.h"
#include "engine/policy_store.h"
#include "engine/request_policy.h"
#include "engine/rereading.h"
#include "engine/scheduler.h"
#include "kernels/compute.h"
#include "kv/block_pool.h"
#include "kv/prefix_tree.h"
#include "larder/engine.h"
#include "model/forward.h"
#include "model/io/model_source.h"
#include "model/text/tokenizer.h"
#include "model/weights.h"
#include "store/block_store.h"

namespace larder {

struct Engine::Impl {
  /// What must exist before the members that borrow it; see `create`.
  struct Parts {
    std::unique_ptr<ModelSource> source;
    std::unique_ptr<Tokenizer> tokenizer;
    EngineOptions options;
    std::optional<EvictionOptions> eviction;
    KvPlan plan;
    ForwardLimits limits;
    Weights weights;
    BlockPool pool;
    BlockStore store;
    const simd::Table* simd;
    std::unique_ptr<ThreadPool> threads;
    std::uint64_t spare_bytes;
  };
  static Result<std::unique_ptr<Impl>> create(std::unique_ptr<ModelSource> source,
                                              EngineOptions options, const Progress& progress);
  explicit Impl(Parts parts);

  Result<void> check(const Request& request) const;
  Result<RequestId> submit(Request request);
  Result<void> stretch_kept(RequestId id, std::vector<TokenId> tokens);

  std::optional<PrefixReport> prefix_report(RequestId id) const;
  Result<std::uint32_t> pin_prefix(std::span<const TokenId> tokens, std::string_view salt);
  std::uint32_t unpin_prefix(std::span<const TokenId> tokens, std::string_view salt);
  std::size_t drop_prefix(std::span<const TokenId> tokens, std::string_view salt);
  CacheView cache_view() const;

  void pack_weights();
  void copy_blocks(const StepPlan& step_plan);
  Result<void> commit_rows(const StepPlan& step_plan, StepReport& report);
  Result<void> pool_rows(const StepPlan& step_plan, StepReport& report);
  Result<void> draw_tokens(const StepPlan& step_plan, StepReport& report);
  void retire_finished();
  void give_memory_back();
  void count_time(const StepReport& report, double seconds);

  EngineStats current_stats() const;
  std::string description() const;

  std::unique_ptr<ModelSource> source;
  std::unique_ptr<Tokenizer> tokenizer;
  EngineOptions options;
  const std::optional<EvictionOptions> eviction;  // what the options say of a policy
  KvPlan plan;
  Weights weights;
  BlockPool pool;
  BlockStore store;
  std::unique_ptr<ThreadPool> threads;
  Compute compute;
  ForwardLimits limits;
  ForwardPass forward;
  BatchBuilder batches;
  GrammarStore grammars;
  std::optional<RereadTexts> reread_texts;               // once a policy reads prompts again
  std::shared_ptr<SequencePolicy> own_policy, all_rows;  // owners: this, requests, kept caches
  PolicyStore policies;                                  // that requests named
  KeptCaches kept;
  std::optional<PrefixTree> prefixes;  // KvOptions::prefix_caching
  CompressedPrefixes compressed;       // with it
  Scheduler scheduler;
  const Stopwatch age;        // blocks are dated with it
  std::uint64_t n_steps = 0;  // so far, the one under way counted

 private:
  struct Draw {  // what came out for one row of logits
    LogitsWanted wanted;
    TokenId token = kNoToken;
    float logprob = 0;
    std::size_t logits_index = 0;  // which of the rows computed together
    bool is_broken = false;        // the logits are no numbers
    bool is_stuck = false;         // the grammar lets no token follow; `token` stands for none
    std::vector<TokenLogprob> top;
  };
  std::vector<KvLayout> layouts_in_pool() const;
  std::shared_ptr<SequencePolicy> make_policy(RowPlan rows, std::string text);
  Result<std::shared_ptr<SequencePolicy>> policy_of(const Request& request);
  Result<std::shared_ptr<SequencePolicy>> named_policy(const Request& request);
  Result<std::shared_ptr<SequencePolicy>> known_policy(const EvictionOptions& named);
  Result<void> make_room_for(const EvictionOptions& named);
  Result<void> check_room(const Request& request, const SequencePolicy& policy) const;
  SchedulerHooks hooks();
  void drop_requests(const StepPlan& step_plan);
  Result<void> commit_rows(const PlannedRows& planned);
  void set_evictions(Sequence& sequence) const;
  void begin_reread(Sequence& sequence) const;
  void end_reread(Sequence& sequence) const;
  bool leaves_rows(const Sequence& sequence) const;
  bool ends_by_policy(const Sequence& sequence, const PrefixMatch& match) const;
  PrefixMoment now(RequestId request) const;
  bool make_room(const Sequence& needy);
  void share_rows(Sequence& sequence);
  void share_more(Sequence& sequence);
  bool share_compressed(Sequence& sequence);
  void leave_compressed(const Sequence& sequence);
  bool is_underway(const Sequence& sequence, const StepPlan& step_plan) const;
  void count_shared(Sequence& sequence, std::uint32_t n_rows);
  void publish_rows(Sequence& sequence, std::uint32_t n_new);
  PrefixKey prefix_key(const Sequence& sequence) const;
  PrefixKey prefix_key(std::span<const TokenId> tokens, std::string_view salt) const;
  void report_prefix(const Sequence& sequence, const PrefixMatch& match);
  void note_usage(const Sequence& sequence);
  std::string format_name() const;
  std::string raw_text() const;
  std::vector<CacheView::Blocks> count_blocks(const PrefixSummary& tree) const;
  std::vector<std::size_t> count_open() const;
  std::vector<std::string> formats_of_classes() const;
  std::vector<CacheView::Layers> layers_of(const Sequence& sequence) const;
  tl::unexpected<Error> drop_broken(const StepPlan& step_plan);
  void fork_samples(Sequence& first, std::uint32_t row);
  void draw(Draw& draw, std::span<const float> logits) const;
  void show_prompt_logits(std::span<const Draw> drawn) const;
  void report_prompt_token(const Draw& draw, StepReport& report);
  void accept_token(Draw& draw, StepReport& report);
  FinishReason finish_reason(const Sequence& sequence) const;

  std::uint32_t max_logit_rows_;
  Buffer<float> logits_;  // [max_logit_rows_, n_vocab]
  std::vector<Draw> draws_;
  std::vector<std::uint32_t> logit_rows_;  // [max_logit_rows_] of the batch, computed together
  EngineStats counters_;
  std::deque<PrefixReport> reports_;  // of those that started last
  RequestId next_id_ = 1;
  std::vector<TokenKind> kinds_;  // [n_vocab] once a policy looks at them
  std::uint64_t spare_bytes_;     // of the machine's memory: what policies of requests may count in
  bool has_stepped_ = false;
};

}  // namespace larder
