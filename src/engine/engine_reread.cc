// Prompts that are read again before rows are dropped.
#include <algorithm>
#include <utility>

#include "engine/engine_impl.h"

namespace larder {

/// Where all but the last token of the prompt is cached: its next part that is to be read again.
void Engine::Impl::begin_reread(Sequence& sequence) const {
  if (!sequence.must_reread()) return;
  const std::uint32_t n_text = sequence.cache.n_rows(), n_chunk = sequence.evictions.n_reread;
  std::vector<TokenId> tokens = reread_tokens(
      *reread_texts, std::span(sequence.tokens).first(n_text), sequence.n_reread, n_chunk);
  sequence.n_reread += std::min(n_chunk, n_text - sequence.n_reread);
  SequenceCache fork = sequence.cache.fork(n_text);
  sequence.rereading.emplace(Rereading{std::move(sequence.cache), std::move(tokens)});
  sequence.cache = std::move(fork);
}

/// After rows were computed: when they were the last of a part, nothing of it stays but what its
/// queries have left on the rows of the text.
void Engine::Impl::end_reread(Sequence& sequence) const {
  if (sequence.n_missing() > 0) return;
  sequence.cache = std::move(sequence.rereading->text);
  sequence.rereading.reset();
  sequence.statistics.clear_from(sequence.cache.n_rows());
  begin_reread(sequence);
}

}  // namespace larder
