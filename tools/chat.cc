#include "chat.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <istream>
#include <utility>

#include "failure.h"
#include "terminal.h"

namespace larder {
namespace {

constexpr std::string_view kHelp =
    "/exit   leave (so does Ctrl-D)\n"
    "/clear  forget the conversation and free its cache\n"
    "/stats  tokens, speed and KV bytes so far\n"
    "/help   this\n"
    "Ctrl-C  stop the reply\n";

constexpr std::string_view kForgot =
    "(the oldest part of the conversation no longer fits and is forgotten)\n";

void say(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

void show_reply(const TokenEvent& event) {
  std::fwrite(event.text.data(), 1, event.text.size(), stdout);
  std::fflush(stdout);
}

/// Without its first quarter, and without the word in which that ends.
std::string_view newer_part(std::string_view text) {
  const std::size_t space = text.find_first_of(" \n", text.size() / 4);
  std::size_t begin = space < text.size() / 2 ? space : text.size() / 4 + 1;
  while (begin < text.size() && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) ++begin;
  return text.substr(begin);
}

}  // namespace

ChatSession::ChatSession(Engine& engine, const RunFlags& flags, SamplingOptions sampling,
                         std::optional<ChatTemplate> chat)
    : engine_(engine), flags_(flags), sampling_(std::move(sampling)), chat_(std::move(chat)) {
  totals_.seed = sampling_.seed;
  clear();
}

ChatSession::~ChatSession() {
  if (kept_ != 0) engine_.release(kept_);
}

void ChatSession::clear() {
  if (kept_ != 0) engine_.release(std::exchange(kept_, 0));
  text_.clear();
  messages_.clear();
  if (flags_.system) messages_.push_back({"system", *flags_.system});
}

Result<void> ChatSession::run(std::istream& input) {
  say(chat_ ? "Chat with the model; /help lists the commands.\n"
            : "The model continues your text (no chat template is used); /help lists the "
              "commands.\n");
  const std::string_view prompt = stderr_is_terminal() ? "\x1b[1;32m>\x1b[0m " : "> ";
  for (std::string line;;) {
    const InterruptGuard guard;
    say(prompt);
    if (!std::getline(input, line)) break;
    if (line.empty()) continue;
    const Command outcome = command(line);
    if (outcome == Command::exit) return {};
    if (outcome == Command::done) continue;
    auto answered = answer(line);
    if (!answered && answered.error().code != Errc::invalid_argument) return answered;
    if (!answered) complain(answered.error().message);  // the conversation goes on
  }
  say("\n");
  return {};
}

ChatSession::Command ChatSession::command(const std::string& line) {
  if (line.front() != '/') return Command::none;
  if (line == "/exit" || line == "/quit") return Command::exit;
  if (line == "/clear") {
    clear();
    say("The conversation is forgotten.\n");
  } else if (line == "/stats") {
    say(run_summary(engine_, totals_));
  } else if (line == "/help") {
    say(kHelp);
  } else {
    say(fmt::format("'{}' is no command.\n{}", line, kHelp));
  }
  return Command::done;
}

/// What a prompt may take: a quarter of the context (256 tokens at most) is left for the reply.
std::size_t ChatSession::room() const {
  const std::uint32_t n_context = engine_.options().n_context;
  return n_context - std::min(n_context / 4, 256U);
}

Result<std::vector<TokenId>> ChatSession::prompt_for(const std::string& line) {
  return chat_ ? message_prompt(line) : text_prompt(line);
}

/// The whole conversation with `line` at its end. When it outgrows its room, the oldest exchange is
/// forgotten.
Result<std::vector<TokenId>> ChatSession::message_prompt(const std::string& line) {
  messages_.push_back({"user", line});
  const std::ptrdiff_t first = flags_.system ? 1 : 0;
  bool forgot = false;
  for (;;) {
    auto tokens = chat_tokens(*chat_, engine_.tokenizer(), messages_);
    const bool last = std::ssize(messages_) <= first + 2;
    if (!tokens || tokens->size() <= room() || last) {
      if (forgot) say(kForgot);
      if (!tokens) messages_.pop_back();
      return tokens;
    }
    messages_.erase(messages_.begin() + first, messages_.begin() + first + 2);
    forgot = true;
  }
}

/// The text so far and `line`. When they outgrow their room, the oldest part of the text is
/// forgotten, a quarter at a time: the turns after it find their beginning in the cache again.
std::vector<TokenId> ChatSession::text_prompt(const std::string& line) {
  const Tokenizer& tokenizer = engine_.tokenizer();
  std::string_view kept = text_;
  std::vector<TokenId> tokens = continuation_tokens(tokenizer, text_ + line);
  while (tokens.size() > room() && !kept.empty()) {
    kept = newer_part(kept);
    tokens = continuation_tokens(tokenizer, std::string(kept) + line);
  }
  const bool refused = tokens.size() > engine_.options().n_context;  // the line alone is too long
  if (kept.size() < text_.size() && !refused) {
    say(kForgot);
    text_ = std::string(kept);
  }
  return tokens;
}

Result<void> ChatSession::answer(const std::string& line) {
  LARDER_ASSIGN(auto prompt, prompt_for(line));
  Request request = make_request(flags_, sampling_, std::move(prompt));
  request.keep_cache = true;
  request.reuse = kept_;
  ++sampling_.seed;  // the next turn draws anew, and a session can still be repeated
  auto generation = generate(engine_, std::move(request), show_reply);
  if (!generation) {
    if (chat_) messages_.pop_back();
    return tl::unexpected<Error>(std::move(generation).error());
  }
  std::fputs("\n", stdout);
  std::fflush(stdout);
  const GeneratedSample& reply = generation->samples.front();
  const bool as_asked =
      reply.tokens.size() == static_cast<std::size_t>(std::max(flags_.n_predict.value_or(0), 0));
  if (reply.finish == FinishReason::length && !as_asked) {
    say("(the context is full, the reply ends here)\n");
  }
  if (!chat_) text_ += line;
  remember(*generation);
  return {};
}

void ChatSession::remember(const Generation& generation) {
  totals_.add(generation);
  const GeneratedSample& reply = generation.samples.front();
  if (chat_) {
    messages_.push_back({"assistant", reply.text});
  } else if (reply.finish == FinishReason::stop) {
    text_.clear();  // the text has come to its end; the next line begins another
  } else {
    text_ += reply.text;
  }
  if (generation.interrupted) return;  // its cache is gone, the older one still helps
  if (kept_ != 0) engine_.release(kept_);
  kept_ = generation.id;
}

}  // namespace larder
