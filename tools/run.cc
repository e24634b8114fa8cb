// larder run: one completion, or a conversation.
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "chat.h"
#include "commands.h"
#include "engine_flags.h"
#include "failure.h"
#include "flag_values.h"
#include "generation.h"
#include "json_output.h"
#include "model/text/chat_prompt.h"
#include "open_engine.h"
#include "run_flags.h"
#include "run_report.h"
#include "terminal.h"
#include "text_input.h"

namespace larder {
namespace {

constexpr std::uint64_t kMaxPromptBytes = 64ULL << 20;
constexpr std::uint64_t kMaxSchemaBytes = 1ULL << 20;
constexpr std::uint32_t kMaxSamples = 4096;  // sequences of an engine

Result<void> check(const RunFlags& flags) {
  const auto bad = [](const char* message) { return fail(Errc::invalid_argument, "{}", message); };
  if (flags.prompt && flags.prompt_file) return bad("--prompt and --file exclude each other");
  if (flags.chat && flags.no_chat) return bad("--chat and --no-chat exclude each other");
  if (flags.no_chat && flags.system) return bad("--system needs a chat, --no-chat forbids it");
  if (flags.json_schema && flags.json_schema_file) {
    return bad("--json-schema and --json-schema-file exclude each other");
  }
  if (flags.n_logprobs >= 0 && !flags.json) return bad("--logprobs needs --json");
  if (flags.n_predict == 0) return bad("--predict 0 asks for nothing; use -1 for no limit");
  if (flags.n_predict.value_or(-1) < -1) {
    return fail(Errc::invalid_argument, "--predict is {}, must be -1 (no limit) or at least 1",
                *flags.n_predict);
  }
  if (flags.sampling.seed.value_or(-1) < -1) {
    return fail(Errc::invalid_argument, "--seed is {}, must be -1 (drawn) or at least 0",
                *flags.sampling.seed);
  }
  if (flags.n_samples < 1 || flags.n_samples > kMaxSamples) {
    return fail(Errc::invalid_argument, "--samples is {}, must be 1 to {}", flags.n_samples,
                kMaxSamples);
  }
  if (flags.engine.n_sequences == 0) return bad("--parallel is 0, must be at least 1");
  for (const std::string& text : flags.stop) {
    if (text.empty()) return bad("--stop is empty");
  }
  return {};
}

bool is_interactive(const RunFlags& flags) {
  return !flags.prompt && !flags.prompt_file && stdin_is_terminal();
}

/// A file or pipe ends with a line break that is not meant.
std::string without_last_newline(std::string text) {
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

Result<std::string> prompt_text(const RunFlags& flags) {
  if (flags.prompt) return *flags.prompt;
  LARDER_ASSIGN(std::string text, flags.prompt_file
                                      ? read_text_file(*flags.prompt_file, kMaxPromptBytes)
                                      : read_stdin(kMaxPromptBytes));
  return without_last_newline(std::move(text));
}

/// The template to use: the model's own unless the user wants none.
Result<std::optional<ChatTemplate>> choose_template(const RunFlags& flags, const Engine& engine) {
  if (flags.no_chat) return std::optional<ChatTemplate>();
  LARDER_ASSIGN(auto chat, load_chat_template(engine.tokenizer()));
  if (!chat && (flags.chat || flags.system)) {
    return fail(Errc::invalid_argument, "{}: has no chat template, which --{} needs",
                flags.engine.model_path, flags.chat ? "chat" : "system");
  }
  return chat;
}

Result<std::vector<TokenId>> completion_prompt(const RunFlags& flags, const Engine& engine,
                                               const std::optional<ChatTemplate>& chat,
                                               const std::string& text) {
  if (text.empty()) return fail(Errc::invalid_argument, "the prompt is empty");
  if (!chat) return continuation_tokens(engine.tokenizer(), text);
  std::vector<ChatMessage> messages;
  if (flags.system) messages.push_back({"system", *flags.system});
  messages.push_back({"user", text});
  return chat_tokens(*chat, engine.tokenizer(), messages);
}

/// Null when the text is free.
Result<std::shared_ptr<const Grammar>> grammar_of(const RunFlags& flags, const Engine& engine) {
  if (!flags.json_schema && !flags.json_schema_file) return nullptr;
  std::string schema = flags.json_schema.value_or("");
  if (flags.json_schema_file) {
    LARDER_ASSIGN(schema, read_text_file(*flags.json_schema_file, kMaxSchemaBytes));
  }
  return engine.json_grammar(schema);
}

void print_samples(const Generation& generation) {
  for (std::size_t i = 0; i < generation.samples.size(); ++i) {
    std::printf("=== sample %zu ===\n%s\n", i, generation.samples[i].text.c_str());
  }
}

Result<void> complete(Engine& engine, const RunFlags& flags, const std::string& text) {
  LARDER_ASSIGN(const auto chat, choose_template(flags, engine));
  LARDER_ASSIGN(auto prompt, completion_prompt(flags, engine, chat, text));
  const SamplingOptions sampling = resolve_sampling(flags.sampling, engine.generation_defaults());
  const bool streams = flags.n_samples == 1 && !flags.json;
  const auto show = [streams](const TokenEvent& event) {
    if (!streams) return;
    std::fwrite(event.text.data(), 1, event.text.size(), stdout);
    std::fflush(stdout);
  };
  Request request = make_request(flags, sampling, std::move(prompt));
  LARDER_ASSIGN(request.grammar, grammar_of(flags, engine));
  const InterruptGuard guard;
  LARDER_ASSIGN(const Generation generation, generate(engine, std::move(request), show));
  RunTotals totals;
  totals.seed = sampling.seed;
  totals.add(generation);
  if (flags.json) {
    print_json(run_json(engine, generation, totals));
    return {};
  }
  if (streams) {
    std::fputs("\n", stdout);
  } else {
    print_samples(generation);
  }
  std::fflush(stdout);
  if (!flags.quiet) std::fputs(("\n" + run_summary(engine, totals)).c_str(), stderr);
  return {};
}

Result<void> converse(Engine& engine, const RunFlags& flags) {
  if (flags.json_schema || flags.json_schema_file) {
    return fail(Errc::invalid_argument, "--json-schema needs a prompt (-p, -f or standard input)");
  }
  if (flags.n_samples != 1 || flags.json) {
    return fail(Errc::invalid_argument, "--{} needs a prompt (-p, -f or standard input)",
                flags.json ? "json" : "samples");
  }
  LARDER_ASSIGN(auto chat, choose_template(flags, engine));
  ChatSession session(engine, flags, resolve_sampling(flags.sampling, engine.generation_defaults()),
                      std::move(chat));
  LARDER_TRY(session.run(std::cin));
  if (!flags.quiet) std::fputs(run_summary(engine, session.totals()).c_str(), stderr);
  return {};
}

Result<void> run(RunFlags& flags) {
  LARDER_TRY(check(flags));
  flags.engine.n_sequences = std::max(flags.engine.n_sequences, flags.n_samples);
  flags.engine.pack_while_running = true;  // somebody waits for the first token
  if (is_interactive(flags)) {
    LARDER_ASSIGN(const auto engine, open_engine(flags.engine));
    return converse(*engine, flags);
  }
  LARDER_ASSIGN(const std::string text, prompt_text(flags));
  LARDER_ASSIGN(const auto engine, open_engine(flags.engine));
  return complete(*engine, flags, text);
}

void add_text_flags(CLI::App& command, RunFlags& flags) {
  command.add_option("-p,--prompt", flags.prompt, "text to start from");
  command.add_option("-f,--file", flags.prompt_file, "file with the text to start from");
  command.add_option("--system", flags.system, "system message of the chat (also -sys)");
  command.add_flag("--chat", flags.chat, "use the chat template; refused without one (also -cnv)");
  command.add_flag("--no-chat", flags.no_chat,
                   "continue the text even if there is a chat template");
  add_number(command, "-n,--predict", flags.n_predict, "tokens to generate; -1: until the end");
  command.add_option("--stop", flags.stop, "text that ends the reply (repeatable)")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command.add_option("-j,--json-schema", flags.json_schema,
                     "JSON schema that the text must satisfy");
  command.add_option("--json-schema-file", flags.json_schema_file, "file with such a schema");
  command.add_flag("--ignore-eos", flags.ignore_eos, "go on after the end-of-text token");
  add_number(command, "--samples", flags.n_samples, "continuations; they share the prompt's cache");
  add_number(command, "--logprobs", flags.n_logprobs,
             "log-probabilities of the K likeliest tokens, with --json");
  command.add_flag("--json", flags.json, "one JSON object instead of text");
  command.add_flag("-q,--quiet", flags.quiet, "no summary at the end");
}

}  // namespace

void add_run_command(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<RunFlags>();  // owned by the callback below
  CLI::App* command = app.add_subcommand("run", "complete a prompt, or chat");
  add_text_flags(*command, *flags);
  add_sampling_flags(*command, flags->sampling);
  add_engine_flags(*command, flags->engine);
  command->callback([flags, &exit_code] {
    const auto outcome = run(*flags);
    exit_code = outcome ? kExitOk : report_failure(outcome.error());
  });
}

}  // namespace larder
