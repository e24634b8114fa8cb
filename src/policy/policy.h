// What decides which cached rows of a sequence stay: score x budget x trigger.
#pragma once

#include <cstdint>
#include <limits>

namespace larder {

/// What a row is worth, from what is known when rows have to go.
enum class Score : std::uint8_t {
  position,            // the newer the better
  random,              // drawn from the seed: what any method has to beat
  key_norm,            // keys of small norm draw attention
  key_spread,          // keys unlike the mean of all keys
  attention,           // what queries gave it
  expected_attention,  // what queries to come may give it, told from those that there were
};

/// What attention counts for.
enum class Counting : std::uint8_t {
  weight,       // its weight
  unimportant,  // how often it was below the mean, against the row
  noisy,        // its weight with noise, the more evenly the more there is generated
  largest,      // the largest weight
};

/// How the rows that stay are dealt out to the layers.
enum class Allocation : std::uint8_t {
  uniform,  // to each as many
  pyramid,  // fewer the deeper the layer
};

/// What a file of weights of KV heads is for (policy/head_budgets.h).
enum class HeadFile : std::uint8_t {
  none,     // there is none
  shares,   // of the budget
  classes,  // heads that keep everything, and others
};

/// The distance at which queries meet the sinks.
enum class SinkDistance : std::uint8_t {
  in_text,   // as all rows
  in_cache,  // as if the rows that were dropped had never been there
  capped,    // at that in the text, but no more than the cache can have
};

/// What becomes of the values of rows that are dropped (policy/merge_rows.h).
enum class Merging : std::uint8_t {
  none,        // they are gone
  shared_out,  // among the next rows that stay, by lot
  to_likest,   // they join the row with the likest key, if it is like enough
  in_runs,     // they and their keys join a row of the run of alike keys that they stand in
};

/// What queries read of the cached rows.
enum class Reading : std::uint8_t {
  all,
  by_bounds,           // of the blocks before their own, those whose keys may give them the most
  by_representatives,  // those of which a few keys do, beside the first and the newest
};

/// A method with all its values. Rows go at places that the position in the text alone decides, see
/// docs/decisions/0013.
struct Policy {
  Score score = Score::position;
  std::uint32_t sinks = 4;    // first rows, which stay
  std::uint32_t recent = 32;  // newest rows, which stay
  std::uint32_t every = 256;  // rows go when the text has a multiple of so many tokens; 0: no more
  bool at_prompt_end = true;  // and when it has all of the prompt's
  std::uint32_t recent_percent = 0;  // so much of the budget is for the newest rows at least
  // Of attention scores:
  Counting counting = Counting::weight;
  std::uint32_t window = 0;  // newest queries that count; 0: all there were
  std::uint32_t rise_percent =
      0;                     // of the window, the last query counts so much more than the first
  std::uint32_t kernel = 1;  // scores are means over so many neighbours, an odd number
  bool joins_heads = false;  // one decision for all KV heads of a layer
  Allocation allocation = Allocation::uniform;
  bool splits_heads = false;         // a layer's rows go to the KV heads that have the best ones
  std::uint32_t floor_percent = 20;  // of the mean of which every head has its own
  std::uint32_t beta = 20;           // of a pyramid: how steep
  HeadFile head_file = HeadFile::none;
  std::uint32_t full_percent = 50;  // of the heads keep everything
  SinkDistance sink_distance = SinkDistance::in_text;
  Merging merging = Merging::none;
  std::uint32_t heirs = 32;  // rows among which one is shared out
  std::uint32_t seed = 0;
  /// Before rows go at the end of the prompt it is read again, so many tokens at a time, and only
  /// these queries count; 0: it is not.
  std::uint32_t chunk = 0;
  /// Each KV head keeps the rows of the first pattern that is enough for it (hybrid_patterns.h), or
  /// all; the budget are the rows of two of the patterns.
  bool fits_patterns = false;
  std::uint32_t recover_percent = 95;  // of the attention: what is enough
  std::uint32_t heavy_percent = 0;     // of the budget are rows with the most attention, in no run
  /// Where not all, no rows are dropped; `sinks` and `recent` are read in any case, and nothing
  /// else above counts.
  Reading reading = Reading::all;
  std::uint32_t full_layers = 2;      // the first layers, which read everything
  std::uint32_t representatives = 4;  // keys of a block
  bool operator==(const Policy&) const = default;
};

inline constexpr std::uint32_t kMaxSinks = 128;

/// How many rows of each layer and KV head stay: tokens, or a share of the prompt; or, of all that
/// drop rows together, bytes, which whoever knows the cache turns into tokens.
struct KeepBudget {
  std::uint32_t n_tokens = 0;  // 0: `share` counts
  double share = 0;            // 0 to 1, both excluded
  std::uint64_t n_bytes = 0;   // 0: the others count
  bool operator==(const KeepBudget&) const = default;
};

/// Rows that stay of a text whose prompt has `n_prompt` tokens: the budget's, or all the protected
/// ones when those are more.
std::uint32_t rows_to_keep(const Policy& policy, const KeepBudget& budget,
                           std::uint32_t n_prompt) noexcept;

/// Newest rows that stay of `n_keep`.
std::uint32_t protected_newest(const Policy& policy, std::uint32_t n_keep) noexcept;

/// Rows that stay of layer `index` of the `n_layers` that drop rows, when `n_keep` stay on average
/// and the text has `n_tokens`. Method of the pyramid: Cai et al. 2024 (arXiv:2406.02069).
std::uint32_t rows_of_layer(const Policy& policy, std::uint32_t n_keep, std::uint32_t index,
                            std::uint32_t n_layers, std::uint32_t n_tokens) noexcept;
/// The most of them, however long the text is.
std::uint32_t most_rows_of_layer(const Policy& policy, std::uint32_t n_keep, std::uint32_t index,
                                 std::uint32_t n_layers) noexcept;

/// Rows of a layer that a sequence of up to `n_context` tokens stores at most: what stays when
/// `n_keep` do on average, and what comes before the next time. All of them when there is no next.
std::uint32_t max_stored_rows(const Policy& policy, std::uint32_t n_keep, std::uint32_t n_context,
                              std::uint32_t index, std::uint32_t n_layers) noexcept;

}  // namespace larder
