// larder serve: the engine behind an HTTP server.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <filesystem>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "commands.h"
#include "engine_flags.h"
#include "failure.h"
#include "flag_values.h"
#include "model/text/chat_prompt.h"
#include "open_engine.h"
#include "sampling_flags.h"
#include "server/api.h"
#include "server/heap.h"
#include "server/http_server.h"
#include "text_input.h"

namespace larder {
namespace {

constexpr std::uint64_t kMaxKeyFileBytes = 1U << 20;
constexpr std::uint64_t kMaxTemplateBytes = 1U << 20;
constexpr double kLastWordsSeconds = 5;

struct ServeFlags {
  EngineOptions engine;
  SamplingFlags sampling;
  HttpOptions http;
  LoopLimits limits;
  std::vector<std::string> names;
  std::optional<std::string> key_file, template_file;
  std::string pooling = "mean";
  double grace_seconds = 30;
  bool no_reuse = false;
};

/// Ends the process's work on SIGINT and SIGTERM: the first asks, the second insists.
class StopSignal {
 public:
  void raise() {
    const std::lock_guard lock(mutex_);
    // While the model loads, and for the impatient, there is nothing to lose.
    if (!ready_ || raised_) _exit(kExitFailed);
    raised_ = true;
    changed_.notify_all();
  }
  /// From here on a signal is waited for instead of ending the process.
  void wait() {
    std::unique_lock lock(mutex_);
    ready_ = true;
    changed_.wait(lock, [this] { return raised_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ready_ = false, raised_ = false;
};

/// The thread of the server's connections.
class WireThread {
 public:
  explicit WireThread(HttpServer& server)
      : server_(server), ended_(promise_.get_future()), thread_([this] {
          server_.run();
          promise_.set_value();
        }) {}
  ~WireThread() { end(0); }
  WireThread(const WireThread&) = delete;
  WireThread& operator=(const WireThread&) = delete;
  /// Gives answers `seconds` to be written, then closes what is still open.
  void end(double seconds) {
    if (!thread_.joinable()) return;
    ended_.wait_for(std::chrono::duration<double>(seconds));
    server_.close_all();
    thread_.join();
  }

 private:
  HttpServer& server_;
  std::promise<void> promise_;
  std::future<void> ended_;
  std::thread thread_;
};

/// One key a line; empty lines and those that begin with # are passed over.
Result<void> read_keys(const std::string& path, std::vector<std::string>& keys) {
  LARDER_ASSIGN(const std::string text, read_text_file(path, kMaxKeyFileBytes));
  std::size_t begin = 0;
  const std::size_t n_before = keys.size();
  while (begin < text.size()) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string line = text.substr(begin, end - begin);
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (!line.empty() && line.front() != '#') keys.push_back(std::move(line));
    begin = end + 1;
  }
  if (keys.size() > n_before) return {};
  return fail(Errc::invalid_argument, "--api-key-file {}: there is no key in it", path);
}

Result<void> check(ServeFlags& flags) {
  if (flags.key_file) LARDER_TRY(read_keys(*flags.key_file, flags.http.api_keys));
  for (const std::string& key : flags.http.api_keys) {
    if (key.empty()) return fail(Errc::invalid_argument, "--api-key is empty");
  }
  // The largest body that is taken must find room at all.
  flags.http.max_buffered_bytes =
      std::max<std::size_t>(flags.http.max_buffered_bytes, flags.http.max_body_bytes);
  flags.engine.kv.prefix_caching = !flags.no_reuse;
  if (flags.pooling != "mean" && flags.pooling != "last") {
    return fail(Errc::invalid_argument, "--pooling is '{}', must be mean or last", flags.pooling);
  }
  if (flags.grace_seconds < 0) {
    return fail(Errc::invalid_argument, "--shutdown-timeout is {}, must be at least 0",
                flags.grace_seconds);
  }
  return {};
}

std::string default_name(const std::string& model_path) {
  const auto path = std::filesystem::path(model_path).lexically_normal();
  const std::string name = (path.has_filename() ? path : path.parent_path()).stem().string();
  return name.empty() ? "model" : name;
}

Result<std::optional<ChatTemplate>> choose_chat(const ServeFlags& flags, const Engine& engine) {
  if (!flags.template_file) return load_chat_template(engine.tokenizer());
  LARDER_ASSIGN(const std::string source, read_text_file(*flags.template_file, kMaxTemplateBytes));
  LARDER_ASSIGN(auto chat, ChatTemplate::parse(source));
  return std::optional<ChatTemplate>(std::move(chat));
}

std::int64_t unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

ApiOptions api_options(const ServeFlags& flags, const Engine& engine) {
  ApiOptions options;
  options.model_names = flags.names;
  if (options.model_names.empty()) {
    options.model_names = {default_name(flags.engine.model_path)};
  }
  options.sampling = resolve_sampling(flags.sampling, engine.generation_defaults());
  options.pooling = flags.pooling == "last" ? Pooling::last : Pooling::mean;
  options.random_seed = flags.sampling.seed.value_or(-1) < 0;
  options.now = unix_seconds;
  return options;
}

/// Loads the model and answers until a signal.
Result<void> answer(const ServeFlags& flags, HttpServer& server, StopSignal& signal) {
  WireThread wire(server);
  LARDER_ASSIGN(const auto engine, open_engine(flags.engine));
  LARDER_ASSIGN(auto chat, choose_chat(flags, *engine));
  ApiOptions options = api_options(flags, *engine);
  const std::string name = options.model_names.front();
  Metrics metrics(name);
  EngineLoop loop(*engine, flags.limits, &metrics);
  const bool has_chat = chat.has_value();
  Api api(*engine, loop, metrics, std::move(options), std::move(chat));
  loop.start();
  server.serve(api);
  std::fprintf(stderr, "larder: %s\n", engine->description().c_str());
  std::fprintf(stderr, "larder: serving %s%s at %s://%s:%u\n", name.c_str(),
               has_chat ? "" : " (no chat template: completions only)",
               server.uses_tls() ? "https" : "http", flags.http.host.c_str(), server.port());
  signal.wait();
  std::fprintf(stderr, "larder: shutting down, %zu requests unfinished\n",
               loop.stats().n_unfinished);
  server.shut_down();
  loop.drain();
  loop.wait_until_done(flags.grace_seconds);
  loop.stop();                  // what is left gets what there is
  wire.end(kLastWordsSeconds);  // before what its connections use is gone
  return {};
}

Result<void> serve(ServeFlags& flags) {
  LARDER_TRY(check(flags));
  keep_heap_small();
  LARDER_ASSIGN(const auto server, HttpServer::listen(flags.http));
  StopSignal signal;
  server->catch_signals([&signal] { signal.raise(); });
  return answer(flags, *server, signal);
}

void add_wire_flags(CLI::App& command, ServeFlags& flags) {
  HttpOptions& http = flags.http;
  const auto group = [](CLI::Option* option) { option->group("Server"); };
  group(command.add_option("--host", http.host, "address to listen on")->capture_default_str());
  group(add_number(command, "--port", http.port, "port to listen on; 0: any that is free"));
  group(command.add_option("--api-key", http.api_keys, "key that clients must give (repeatable)")
            ->expected(1)
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll));
  group(command.add_option("--api-key-file", flags.key_file, "file with one key a line"));
  group(command
            .add_option("--allowed-origins", http.allowed_origins,
                        "origin whose pages may ask from a browser (repeatable; *: all)")
            ->expected(1)
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll));
  group(command.add_option("--ssl-cert-file,--ssl-certfile", http.ssl_cert_file,
                           "PEM certificate chain: serve HTTPS"));
  group(command.add_option("--ssl-key-file,--ssl-keyfile", http.ssl_key_file,
                           "PEM private key of the certificate"));
  group(command
            .add_option("--alias,--served-model-name", flags.names,
                        "what requests call the model (repeatable; default: the file's name)")
            ->expected(1)
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll));
  group(command.add_option("--chat-template,--chat-template-file", flags.template_file,
                           "Jinja file instead of the model's own template"));
  group(command.add_option("--pooling", flags.pooling, "embeddings: mean of all tokens, or last")
            ->capture_default_str());
  group(add_number(command, "--max-queue", flags.limits.n_queued,
                   "requests that may wait; beyond them 429"));
  group(add_number(command, "--max-connections", http.n_connections, "open connections"));
  group(add_bytes(command, "--max-body", http.max_body_bytes, "largest request body"));
  group(command.add_flag("--no-enable-prefix-caching", flags.no_reuse,
                         "share nothing between requests"));
  group(add_number(command, "--shutdown-timeout", flags.grace_seconds,
                   "seconds that running requests get to finish after SIGTERM"));
}

}  // namespace

void add_serve_command(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<ServeFlags>();  // owned by the callback below
  flags->engine.n_sequences = 8;                // a server is there for several at once
  CLI::App* command = app.add_subcommand("serve", "OpenAI-compatible HTTP server");
  add_wire_flags(*command, *flags);
  add_sampling_flags(*command, flags->sampling);
  add_engine_flags(*command, flags->engine);
  command->callback([flags, &exit_code] {
    const auto outcome = serve(*flags);
    exit_code = outcome ? kExitOk : report_failure(outcome.error());
  });
}

}  // namespace larder
