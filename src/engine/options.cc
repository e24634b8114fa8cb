#include "larder/options.h"

#include <algorithm>
#include <bit>
#include <string>
#include <string_view>

#include "base/fail.h"
#include "engine/eviction_options.h"
#include "engine/kv_formats.h"

namespace larder {
namespace {

// Ids of blocks reach this far (base/block_id.h).
constexpr std::uint64_t kMaxKvBytes = std::uint64_t{256} << 30;

Result<void> check_range(std::string_view field, std::uint64_t value, std::uint64_t low,
                         std::uint64_t high) {
  if (value >= low && value <= high) return {};
  return fail(Errc::invalid_argument, "{} must be from {} to {}, not {}", field, low, high, value);
}

}  // namespace

// The model path is not looked at: opening the model says what is wrong with it.
Result<void> validate(const EngineOptions& options) {
  LARDER_TRY(check_range("ctx-size", options.n_context, 0, 1U << 24));
  LARDER_TRY(check_range("parallel", options.n_sequences, 1, 4096));
  LARDER_TRY(check_range("ubatch-size", options.n_batch, 1, 65536));
  if (options.n_batch < options.n_sequences) {
    return fail(
        Errc::invalid_argument,
        "ubatch-size is {}, must be at least parallel ({}): each sequence that decodes takes "
        "one row of a step",
        options.n_batch, options.n_sequences);
  }
  LARDER_TRY(check_range("threads", options.n_threads, 0, 1024));
  LARDER_TRY(check_range("kv-memory", options.kv.memory_bytes, 0, kMaxKvBytes));
  LARDER_TRY(check_formats(options.kv));
  LARDER_TRY(check_range("kv-raw-blocks", options.kv.raw_blocks, 0, 64));
  LARDER_TRY(eviction_options(options.kv, options.n_sequences));
  LARDER_TRY(check_range("block-size", options.kv.block_tokens, 16, 128));
  if (!std::has_single_bit(options.kv.block_tokens)) {
    return fail(Errc::invalid_argument, "block-size must be a power of two, not {}",
                options.kv.block_tokens);
  }
  constexpr std::string_view kSets[] = {"", "scalar", "avx2", "avxvnni", "avx512", "amx"};
  if (std::find(std::begin(kSets), std::end(kSets), options.isa) == std::end(kSets)) {
    return fail(Errc::invalid_argument,
                "isa must be one of scalar, avx2, avxvnni, avx512, amx, not '{}'", options.isa);
  }
  return {};
}

}  // namespace larder
