#include "task_filler.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/fail.h"
#include "text_input.h"

namespace larder {
namespace {

constexpr std::array kWho = {"The old baker",   "A young sailor", "My sister",       "The farmer",
                             "Her neighbour",   "The tall guard", "A quiet teacher", "The painter",
                             "His best friend", "The shopkeeper", "A little boy",    "The doctor",
                             "Our uncle",       "The gardener",   "A tired soldier", "The judge"};
constexpr std::array kDid = {"carried", "found",  "sold",    "painted", "looked at", "forgot",
                             "cleaned", "wanted", "dropped", "mended",  "admired",   "hid",
                             "brought", "lost",   "bought",  "kept"};
constexpr std::array kWhat = {
    "a wooden chair",  "the red basket",  "an empty bottle", "a heavy coat",
    "the blue lamp",   "some warm bread", "a broken clock",  "two horses",
    "the long letter", "a silver spoon",  "an open book",    "the garden gate",
    "a bag of apples", "the small boat",  "a pair of shoes", "the last candle"};
constexpr std::array kWhere = {
    "near the river",   "in the market",       "behind the church", "on the hill",
    "under the bridge", "at the harbour",      "in the kitchen",    "by the old mill",
    "beside the road",  "in front of the inn", "at the station",    "in the forest",
    "above the valley", "in the next town",    "by the window",     "outside the school"};
constexpr std::array kWhen = {"before sunrise",     "after dinner",     "on a cold evening",
                              "early in spring",    "during the storm", "when nobody watched",
                              "late in the autumn", "once again"};

constexpr std::array kWords = {
    "apple",  "river",   "stone",  "candle", "garden", "window", "silver",  "forest", "bottle",
    "letter", "bridge",  "market", "summer", "winter", "flower", "yellow",  "copper", "castle",
    "island", "kettle",  "ladder", "mirror", "needle", "orange", "pepper",  "rabbit", "saddle",
    "temple", "velvet",  "walnut", "anchor", "barrel", "basket", "button",  "camera", "carpet",
    "cherry", "circle",  "coffee", "cotton", "dragon", "engine", "feather", "finger", "hammer",
    "harbor", "helmet",  "hollow", "jacket", "jungle", "lemon",  "marble",  "meadow", "monkey",
    "oyster", "palace",  "pencil", "planet", "pocket", "ribbon", "rocket",  "shadow", "spider",
    "sugar",  "thunder", "ticket", "tunnel", "violin", "wagon",  "whistle"};

constexpr std::size_t kLeastWords = 64;

template <std::size_t N>
std::string_view pick(const std::array<const char*, N>& from, TaskRandom& random) {
  return from[random.below(N)];
}

bool is_plain_word(std::string_view piece) {
  return piece.size() >= 5 && piece.front() == ' ' &&
         std::all_of(piece.begin() + 1, piece.end(), [](char c) { return c >= 'a' && c <= 'z'; });
}

}  // namespace

std::string embedded_filler() {
  constexpr std::size_t kSentences = 6000;
  constexpr std::size_t kParagraph = 6;
  TaskRandom random({2});
  std::string text;
  for (std::size_t i = 0; i < kSentences; ++i) {
    text += pick(kWho, random);
    text.append(" ").append(pick(kDid, random));
    text.append(" ").append(pick(kWhat, random));
    text.append(" ").append(pick(kWhere, random));
    if (random.below(2) == 0) text.append(" ").append(pick(kWhen, random));
    text += random.below(kParagraph) == 0 ? ".\n" : ". ";
  }
  return text;
}

Result<std::string> task_filler_text(const std::string& path) {
  constexpr std::uint64_t kMaxBytes = 256U << 20;
  constexpr std::size_t kUsedBytes = 2U << 20;  // half a million tokens
  if (path.empty()) return embedded_filler();
  LARDER_ASSIGN(std::string text, read_text_file(path, kMaxBytes));
  if (text.empty()) return fail(Errc::invalid_argument, "{}: the text is empty", path);
  if (text.size() > kUsedBytes) text.resize(text.rfind('\n', kUsedBytes) + 1);
  // One line of more than that.
  return text.empty() ? fail(Errc::invalid_argument, "{}: its first line is too long", path)
                      : Result<std::string>(std::move(text));
}

Result<TaskFiller> TaskFiller::create(const Tokenizer& tokenizer, std::string text) {
  std::vector<TokenId> tokens = task_tokens(tokenizer, text);
  if (tokens.empty()) return fail(Errc::invalid_argument, "the filler text has no tokens");
  return TaskFiller(std::move(text), std::move(tokens));
}

std::vector<TokenId> TaskFiller::draw(TaskRandom& random, std::size_t n) const {
  std::vector<TokenId> drawn;
  drawn.reserve(n);
  for (std::size_t at = random.below(tokens_.size()); drawn.size() < n; at = 0) {
    const std::size_t end = std::min(tokens_.size(), at + n - drawn.size());
    drawn.insert(drawn.end(), tokens_.begin() + static_cast<std::ptrdiff_t>(at),
                 tokens_.begin() + static_cast<std::ptrdiff_t>(end));
  }
  return drawn;
}

std::vector<std::string> task_words(const Tokenizer& tokenizer) {
  std::vector<std::string> words;
  for (std::uint32_t id = 0; id < tokenizer.n_vocab(); ++id) {
    const std::string piece = tokenizer.piece(static_cast<TokenId>(id), false);
    if (is_plain_word(piece)) words.push_back(piece.substr(1));
  }
  if (words.size() < kLeastWords) words.assign(kWords.begin(), kWords.end());
  return words;
}

std::vector<TokenId> task_tokens(const Tokenizer& tokenizer, std::string_view text) {
  EncodeOptions literal;
  literal.add_special = false;
  literal.parse_special = false;
  return tokenizer.encode(text, literal);
}

}  // namespace larder
