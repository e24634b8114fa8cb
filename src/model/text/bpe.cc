#include "model/text/bpe.h"

#include "base/fail.h"

namespace larder {

Result<MergeRules> MergeRules::create(std::span<const std::string> merges,
                                      const TokenIndex& index) {
  MergeRules rules(merges.size());
  std::string joined;
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const std::string_view merge = merges[rank];
    bool found = false;
    // Pieces may hold spaces themselves, so the first space need not be the separator.
    for (std::size_t cut = merge.find(' ', 1); !found && cut != std::string_view::npos;
         cut = merge.find(' ', cut + 1)) {
      const TokenId left = index.find(merge.substr(0, cut));
      const TokenId right = index.find(merge.substr(cut + 1));
      if (left == kNoToken || right == kNoToken) continue;
      joined.assign(merge, 0, cut).append(merge, cut + 1);
      const TokenId id = index.find(joined);
      if (id == kNoToken) continue;
      rules.merges_.insert(key(left, right), {static_cast<std::uint32_t>(rank), id});
      found = true;
    }
    if (!found) {
      return fail(Errc::corrupt, "tokenizer: merge {} '{}' names a piece that is not a token", rank,
                  merge.substr(0, 200));
    }
  }
  return rules;
}

}  // namespace larder
