#include "policy/key_readers.h"

#include <algorithm>
#include <array>

namespace larder {
namespace {

struct Reader {
  std::string_view key;
  std::string_view words;             // of the keys that read it
  bool (*has_effect)(const Policy&);  // or asks for none
};

constexpr bool by_attention(const Policy& p) { return p.score == Score::attention; }

constexpr std::array kReaders = {
    Reader{"counting", "score: attention",
           [](const Policy& p) { return by_attention(p) || p.counting == Counting::weight; }},
    Reader{"window", "score: attention",
           [](const Policy& p) { return by_attention(p) || p.window == 0; }},
    Reader{"rise-percent", "score: attention",
           [](const Policy& p) { return by_attention(p) || p.rise_percent == 0; }},
    Reader{"kernel", "score: attention",
           [](const Policy& p) { return by_attention(p) || p.kernel == 1; }},
    Reader{"joins-heads", "score: attention",
           [](const Policy& p) { return by_attention(p) || !p.joins_heads; }},
    Reader{"chunk", "score: attention",
           [](const Policy& p) { return by_attention(p) || p.chunk == 0; }},
    Reader{"recent-percent", "reading: all and any heads-get but by-pattern",
           [](const Policy& p) {
             return p.recent_percent == 0 || (p.reading == Reading::all && !p.fits_patterns);
           }},
    Reader{"at-prompt-end", "reading: all",
           [](const Policy& p) { return p.reading == Reading::all; }},
    Reader{"floor-percent", "heads-get: by-score", [](const Policy& p) { return p.splits_heads; }},
    Reader{"full-percent", "heads-get: all-or-alike",
           [](const Policy& p) { return p.head_file == HeadFile::classes; }},
    Reader{"recover-percent", "heads-get: by-pattern",
           [](const Policy& p) { return p.fits_patterns; }},
    Reader{"beta", "allocation: pyramid",
           [](const Policy& p) { return p.allocation == Allocation::pyramid; }},
    Reader{"heirs", "merging: shared-out",
           [](const Policy& p) { return p.merging == Merging::shared_out; }},
    Reader{"heavy-percent", "merging: in-runs",
           [](const Policy& p) { return p.heavy_percent == 0 || p.merging == Merging::in_runs; }},
    Reader{"seed", "score: random, counting: noisy or merging: shared-out",
           [](const Policy& p) {
             return p.score == Score::random || p.counting == Counting::noisy ||
                    p.merging == Merging::shared_out;
           }},
    Reader{"full-layers", "reading: by-bounds or by-representatives",
           [](const Policy& p) { return p.reading != Reading::all; }},
    Reader{"representatives", "reading: by-representatives",
           [](const Policy& p) { return p.reading == Reading::by_representatives; }},
};

}  // namespace

std::string_view missing_reader(const Policy& policy, std::string_view key) noexcept {
  const auto it = std::find_if(kReaders.begin(), kReaders.end(),
                               [key](const Reader& reader) { return reader.key == key; });
  return it == kReaders.end() || it->has_effect(policy) ? "" : it->words;
}

}  // namespace larder
