#include "head_reach.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/fail.h"
#include "base/thread_count.h"
#include "base/thread_pool.h"
#include "engine/kv_plan.h"
#include "kv/block_pool.h"
#include "kv/sequence_cache.h"
#include "model/forward.h"
#include "model/io/model_source.h"
#include "model/text/tokenizer.h"
#include "model/weights.h"
#include "perplexity.h"
#include "progress.h"
#include "store/block_store.h"
#include "task_filler.h"
#include "task_random.h"
#include "terminal.h"

namespace larder {
namespace {

constexpr std::uint64_t kMaxCacheBytes = 1ULL << 40;  // allocating says what is too much

Result<void> check(const HeadReachOptions& options, const ModelConfig& config) {
  if (config.has_latent()) {
    return fail(Errc::unsupported, "{}: latent attention has no KV heads",
                options.engine.model_path);
  }
  if (options.n_passages == 0 || options.n_passages > 1000) {
    return fail(Errc::invalid_argument, "--passages is {}, must be 1 to 1000", options.n_passages);
  }
  const std::uint64_t n_kept = std::uint64_t{options.sinks} + options.recent;
  if (options.n_words <= n_kept) {
    return fail(Errc::invalid_argument,
                "a passage of {} tokens leaves nothing beyond {} first and {} newest ones: give "
                "--words more",
                options.n_words, options.sinks, options.recent);
  }
  if (std::uint64_t{2} * options.n_words + 1 <= config.n_context_train) return {};
  return fail(Errc::invalid_argument,
              "two passages of {} tokens are longer than the model's context of {}: give --words "
              "less",
              options.n_words, config.n_context_train);
}

/// Words drawn by lot.
std::vector<TokenId> passage(const Tokenizer& tokenizer, std::span<const std::string> words,
                             std::size_t n, TaskRandom& random) {
  std::vector<TokenId> tokens;
  while (tokens.size() < n) {
    const auto word = task_tokens(tokenizer, " " + words[random.below(words.size())]);
    tokens.insert(tokens.end(), word.begin(), word.end());
  }
  tokens.resize(n);
  return tokens;
}

// One sequence and the pass that computes it, without an engine around them.
class Reach {
 public:
  static Result<std::unique_ptr<Reach>> create(const HeadReachOptions& options) {
    LARDER_ASSIGN(auto source, open_model(options.engine.model_path));
    const ModelConfig& config = source->config();
    LARDER_TRY(check(options, config));
    EngineOptions engine = options.engine;
    engine.n_threads = thread_count(engine.n_threads);
    engine.n_context = 2 * options.n_words + 1;
    engine.kv = {};
    LARDER_ASSIGN(KvPlan plan, plan_kv(config, engine, {}, kMaxCacheBytes));
    LARDER_ASSIGN(auto tokenizer, Tokenizer::create(source->tokenizer()));
    LARDER_ASSIGN(BlockPool pool, BlockPool::create(plan.pool));
    LARDER_ASSIGN(BlockStore store, BlockStore::create(pool.range_bytes()));
    auto threads = std::make_unique<ThreadPool>(engine.n_threads);
    LARDER_ASSIGN(Weights weights, Weights::load(*source, {threads.get(), false, {}}));
    return std::make_unique<Reach>(Parts{std::move(source), std::move(engine), std::move(plan),
                                         std::move(tokenizer), std::move(pool), std::move(store),
                                         std::move(threads), std::move(weights)});
  }

  struct Parts {
    std::unique_ptr<ModelSource> source;
    EngineOptions engine;
    KvPlan plan;
    std::unique_ptr<Tokenizer> tokenizer;
    BlockPool pool;
    BlockStore store;
    std::unique_ptr<ThreadPool> threads;
    Weights weights;
  };
  explicit Reach(Parts parts)
      : parts_(std::move(parts)),
        compute_{simd::best(), *parts_.threads},
        layouts_(with_pool(parts_.plan.layouts, parts_.store.pool())),
        forward_(parts_.weights, compute_, layouts_, parts_.engine.kv.block_tokens,
                 {.max_rows = parts_.engine.n_batch,
                  .max_sequences = 1,
                  .max_context = parts_.engine.n_context,
                  .max_logit_rows = 1,
                  .sums_attention = true}) {}

  const ModelConfig& config() const { return parts_.source->config(); }
  const Tokenizer& tokenizer() const { return *parts_.tokenizer; }

  /// sums [n_layers, n_kv_heads, n_context] of the queries from `first_query` on; those of a layer
  /// that reads another's rows are added to the other's.
  std::vector<float> attention_sums(std::span<const TokenId> tokens, std::uint32_t first_query) {
    const ModelConfig& c = config();
    const std::size_t stride = parts_.engine.n_context;
    std::vector<float> sums(c.n_layers * c.n_kv_heads * stride);
    std::vector<float*> of_layers;
    for (std::uint32_t l = 0; l < c.n_layers; ++l) {
      of_layers.push_back(sums.data() + c.owner(l) * c.n_kv_heads * stride);
    }
    SequenceCache cache(parts_.plan.shape, parts_.pool, parts_.engine.n_context);
    for (std::uint32_t begin = 0, n = 0; begin < tokens.size(); begin += n) {
      n = std::min(parts_.engine.n_batch, static_cast<std::uint32_t>(tokens.size()) - begin);
      std::vector<BlockCopy> copies;
      LARDER_CHECK(cache.reserve(n, copies));  // the budget holds the context
      std::vector<ObservedSequence> observed;
      if (begin + n > first_query) {
        const std::uint32_t first = std::max(begin, first_query) - begin;
        observed.push_back({0, first, n - first, of_layers, stride, {}});
      }
      run(cache, tokens.subspan(begin, n), observed);
      cache.commit(n);
    }
    return sums;
  }

 private:
  static std::vector<KvLayout> with_pool(std::vector<KvLayout> layouts, std::byte* pool) {
    for (KvLayout& layout : layouts) layout.pool = pool;
    return layouts;
  }

  void run(const SequenceCache& cache, std::span<const TokenId> tokens,
           std::span<const ObservedSequence> observed) {
    const ModelConfig& c = config();
    std::vector<KvRows> heads;
    for (std::uint32_t l = 0; l < c.n_layers; ++l) {
      for (std::uint32_t h = 0; h < c.n_kv_heads; ++h) {
        const BlockTable& table = cache.table(c.owner(l), h);
        heads.push_back({table.blocks(), table.first_block()});
      }
    }
    const std::vector<std::uint32_t> stored(c.n_layers, cache.n_rows());
    const SequenceRows rows{0, static_cast<std::uint32_t>(tokens.size()), cache.n_rows(), heads,
                            stored};
    forward_.run({tokens, std::span(&rows, 1), observed});
  }

  Parts parts_;
  Compute compute_;
  std::vector<KvLayout> layouts_;
  ForwardPass forward_;
};

/// Adds, for each head, the share of the attention that went to rows [begin, end).
void add_shares(std::span<const float> sums, std::uint32_t begin, std::uint32_t end,
                const std::vector<float>& n_queries, HeadWeights& weights) {
  const std::size_t stride = sums.size() / weights.weights.size();
  for (std::size_t i = 0; i < weights.weights.size(); ++i) {
    double share = 0;
    for (std::size_t row = begin; row < end; ++row) share += double{sums[i * stride + row]};
    const float n = n_queries[i / weights.n_heads];
    if (n > 0) weights.weights[i] += static_cast<float>(share / double{n});
  }
}

}  // namespace

Result<HeadWeights> measure_head_reach(const HeadReachOptions& options) {
  LARDER_ASSIGN(const std::unique_ptr<Reach> reach, Reach::create(options));
  const ModelConfig& c = reach->config();
  HeadWeights weights{c.n_layers, c.n_kv_heads,
                      std::vector<float>(std::size_t{c.n_layers} * c.n_kv_heads)};
  // Query heads of each KV head, of all layers that read it.
  std::vector<float> n_queries(c.n_layers);
  const float n = static_cast<float>(options.n_passages * options.n_words) *
                  static_cast<float>(c.n_heads / c.n_kv_heads);
  for (std::uint32_t l = 0; l < c.n_layers; ++l) {
    if (c.layer_window(l) == 0) n_queries[c.owner(l)] += n;
  }
  const std::vector<std::string> words = task_words(reach->tokenizer());
  ProgressBar bar("heads");
  const InterruptGuard guard;
  for (std::uint32_t i = 0; i < options.n_passages; ++i) {
    if (InterruptGuard::interrupted()) return fail(Errc::unavailable, "interrupted");
    TaskRandom random{options.seed, i};
    std::vector<TokenId> tokens = passage(reach->tokenizer(), words, options.n_words, random);
    const std::vector<TokenId> again = tokens;
    tokens.insert(tokens.end(), again.begin(), again.end());
    const bool bos = begins_with_bos(reach->tokenizer());
    if (bos) tokens.insert(tokens.begin(), reach->tokenizer().data().bos);
    const std::uint32_t n_first = options.n_words + (bos ? 1 : 0);
    const auto sums = reach->attention_sums(tokens, n_first);
    // Beyond the window of the first of the queries, and so of all.
    add_shares(sums, options.sinks, n_first - options.recent, n_queries, weights);
    bar.update(static_cast<double>(i + 1) / options.n_passages);
  }
  return weights;
}

}  // namespace larder
