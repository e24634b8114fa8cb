// larder bench: tokens per second at given depths and numbers of sequences.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/thread_count.h"
#include "bench_cases.h"
#include "bench_chart.h"
#include "bench_output.h"
#include "bench_runner.h"
#include "commands.h"
#include "engine_flags.h"
#include "failure.h"
#include "flag_values.h"
#include "model/io/model_source.h"
#include "model/io/output_file.h"
#include "model/io/random_model.h"
#include "open_engine.h"
#include "read_bandwidth.h"
#include "terminal.h"
#include "text_input.h"

namespace larder {
namespace {

struct BenchCommand {
  BenchFlags bench;
  BenchFormat format = BenchFormat::table;
  std::string model, random_shape, random_output;
  std::string chart, peer;  // SVG to write; JSON of another engine to draw beside
  bool only_read = false;   // measure the memory, no model
  DType random_type = DType::q8_0;
};

/// Writes the random model and names it as the model to measure.
Result<void> make_random_model(BenchCommand& command) {
  LARDER_ASSIGN(const ModelConfig config, random_model_config(command.random_shape));
  std::string path = command.random_output;
  if (path.empty()) {
    path = fmt::format("{}-{}-random.gguf", command.random_shape,
                       dtype_info(command.random_type).name);
  }
  ProgressBar bar("writing " + path);
  LARDER_TRY(write_random_model(config, command.random_type, path,
                                [&bar](float fraction) { bar.update(fraction); }));
  bar.finish();
  std::fprintf(stderr, "wrote %s\n", path.c_str());
  command.model = path;
  return {};
}

bool same_engine(const EngineOptions& a, const EngineOptions& b) {
  return a.n_context == b.n_context && a.n_sequences == b.n_sequences &&
         a.n_threads == b.n_threads && a.kv.type_k == b.kv.type_k && a.kv.type_v == b.kv.type_v;
}

Result<std::vector<BenchResult>> measure(const std::vector<BenchCase>& cases,
                                         std::uint32_t n_repetitions) {
  std::vector<BenchResult> results;
  std::unique_ptr<Engine> engine;
  std::string shown;  // description printed last
  const InterruptGuard guard;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    if (!engine || !same_engine(cases[i].engine, cases[i - 1].engine)) {
      engine.reset();  // two at once may not fit the memory
      LARDER_ASSIGN(engine, open_engine(cases[i].engine));
    }
    if (engine->description() != shown) {
      shown = engine->description();
      std::fprintf(stderr, "%s\n", shown.c_str());
    }
    ProgressBar bar(cases[i].name());
    const auto progress = [&](std::uint32_t n_done) {
      const double part = static_cast<double>(n_done) / n_repetitions;
      bar.update((static_cast<double>(i) + part) / static_cast<double>(cases.size()));
    };
    LARDER_ASSIGN(BenchResult result, run_bench_case(*engine, cases[i], n_repetitions, progress));
    results.push_back(std::move(result));
  }
  return results;
}

/// Bytes that a decoded token reads of the weights: all but an embedding of its own.
Result<double> streamed_bytes(const std::string& model) {
  LARDER_ASSIGN(const auto source, open_model(model));
  double n_bytes = static_cast<double>(source->weights_bytes());
  const auto embedding = source->find("token_embd.weight");
  if (embedding && source->find("output.weight")) {
    n_bytes -= static_cast<double>(embedding->bytes.size());
  }
  return n_bytes;
}

/// A picture, and what of it is known before anything is measured.
struct Chart {
  OutputFile file;
  std::vector<ChartPoint> peer;
  double read_before;  // bandwidth; the faster of that and the one behind the last case is drawn
};

/// Before minutes of measuring: whether the picture can be written, and the peer's file read.
Result<std::optional<Chart>> begin_chart(const BenchCommand& command, std::uint32_t n_threads) {
  if (command.chart.empty()) {
    if (command.peer.empty()) return std::nullopt;
    return fail(Errc::invalid_argument, "--peer is drawn in a picture: it needs --chart");
  }
  LARDER_ASSIGN(OutputFile file, OutputFile::create(command.chart));
  std::vector<ChartPoint> peer;
  if (!command.peer.empty()) {
    constexpr std::uint64_t kMaxPeerBytes = 16U << 20;
    LARDER_ASSIGN(const std::string text, read_text_file(command.peer, kMaxPeerBytes));
    LARDER_ASSIGN(peer, chart_points(text, command.peer));
  }
  return Chart{std::move(file), std::move(peer), read_bandwidth(n_threads)};
}

Result<void> finish_chart(const BenchCommand& command, std::span<const BenchResult> results,
                          Chart& chart) {
  LARDER_ASSIGN(auto points, chart_points(bench_text(results, BenchFormat::json), "results"));
  points.insert(points.end(), chart.peer.begin(), chart.peer.end());
  BandwidthLimit limit;
  limit.bytes_per_second = std::max(chart.read_before, read_bandwidth(results.front().n_threads));
  limit.kv_bytes_per_token = static_cast<double>(results.front().kv_bytes_per_token);
  LARDER_ASSIGN(limit.weights_bytes, streamed_bytes(command.model));
  const std::string svg = bench_chart(points, limit);
  LARDER_TRY(chart.file.write(svg.data(), svg.size()));
  LARDER_TRY(chart.file.finish());
  std::fprintf(stderr, "wrote %s (read bandwidth %.1f GB/s)\n", command.chart.c_str(),
               limit.bytes_per_second / 1e9);
  return {};
}

Result<void> print_read_bandwidth(const BenchCommand& command) {
  if (!command.model.empty() || !command.random_shape.empty() ||
      command.bench.n_threads.size() != 1) {
    return fail(Errc::invalid_argument,
                "--read-bandwidth measures memory alone: no model, one number of threads");
  }
  const unsigned n_threads = thread_count(command.bench.n_threads.front());
  std::printf("{\"n_threads\": %u, \"bytes_per_second\": %.0f}\n", n_threads,
              read_bandwidth(n_threads));
  return {};
}

Result<void> run(BenchCommand& command) {
  if (command.only_read) return print_read_bandwidth(command);
  if (command.model.empty() == command.random_shape.empty()) {
    return fail(Errc::invalid_argument, "one of --model and --random-model is needed");
  }
  LARDER_TRY(bench_cases(command.bench));  // refuse bad flags before a file is written
  if (!command.random_shape.empty()) LARDER_TRY(make_random_model(command));
  command.bench.engine.model_path = command.model;
  LARDER_ASSIGN(const auto cases, bench_cases(command.bench));
  LARDER_ASSIGN(auto chart, begin_chart(command, thread_count(cases.front().engine.n_threads)));
  LARDER_ASSIGN(const auto results, measure(cases, command.bench.n_repetitions));
  std::fputs(bench_text(results, command.format).c_str(), stdout);
  return chart ? finish_chart(command, results, *chart) : Result<void>{};
}

Result<std::pair<std::uint32_t, std::uint32_t>> parse_pair(const std::string& text) {
  LARDER_ASSIGN(const auto counts, parse_counts(text));
  if (counts.size() == 2) return std::pair{counts[0], counts[1]};
  return fail(Errc::invalid_argument, "'{}' is not PROMPT,GENERATED", text);
}

void add_case_flags(CLI::App& app, BenchFlags& bench) {
  const auto counts = [&app](const char* names, std::vector<std::uint32_t>& target,
                             const std::string& help) { add_counts(app, names, target, help); };
  const auto names = [&app](const char* flags, std::vector<std::string>& target,
                            const std::string& help) {
    const auto store = [&target](std::vector<std::string> values) { target = std::move(values); };
    add_parsed(app, flags, split_list, store, help)
        ->type_name("NAME,...")
        ->default_str(fmt::format("{}", fmt::join(target, ",")));
  };
  counts("-p,--n-prompt", bench.n_prompt, "tokens of a prompt (prefill); 0: no such test");
  counts("-n,--n-gen", bench.n_gen, "tokens to generate (decode); 0: no such test");
  counts("-d,--n-depth", bench.depth, "tokens that are in the cache before");
  counts("-b,--batch,--parallel", bench.n_parallel, "sequences side by side (also -np)");
  counts("-t,--threads", bench.n_threads, "threads (0: one per core)");
  names("--cache-type-k", bench.type_k, "storage formats of keys (also -ctk)");
  names("--cache-type-v", bench.type_v, "storage formats of values (also -ctv)");
  app.add_flag("--shared-prefix", bench.shared_prefix,
               "the sequences side by side share their tokens of depth");
  app.add_flag("--quick-depth", bench.quick_depth,
               "repeat cached blocks to reach the depth instead of computing it");
  add_number(app, "-r,--repetitions", bench.n_repetitions, "measurements of each case");
  const std::function<void(const std::vector<std::string>&)> take_pairs =
      [&bench](const std::vector<std::string>& texts) {
        for (const std::string& text : texts) {
          const auto pair = parse_pair(text);
          if (!pair) throw CLI::ValidationError("--prompt-gen", pair.error().message);
          bench.prompt_gen.push_back(*pair);
        }
      };
  app.add_option_function<std::vector<std::string>>(
         "--prompt-gen", take_pairs, "a prompt and a generation in one measurement (also -pg)")
      ->type_name("P,N")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void add_model_flags(CLI::App& app, BenchCommand& command) {
  app.add_option("-m,--model", command.model, "GGUF file or Hugging Face directory");
  app.add_option("--random-model", command.random_shape,
                 fmt::format("write and measure a model of random weights in this shape: {}",
                             fmt::join(random_model_shapes(), ", ")));
  app.add_option("--output", command.random_output, "where the random model is written");
  const auto parse_type = [](const std::string& text) -> Result<DType> {
    if (const auto type = parse_dtype(text)) return *type;
    return fail(Errc::invalid_argument, "'{}' is no type of weights, such as q8_0, q4_0, bf16",
                text);
  };
  add_parsed(
      app, "--type", parse_type, [&command](DType type) { command.random_type = type; },
      "type of the random weights")
      ->default_str("q8_0");
  add_parsed(
      app, "-o,--output-format", parse_bench_format,
      [&command](BenchFormat format) { command.format = format; }, "md, json or csv")
      ->default_str("md");
  app.add_option("--chart", command.chart, "SVG file to write: tokens per second against depth");
  app.add_option("--peer", command.peer, "JSON results of another engine to draw beside");
  app.add_flag("--read-bandwidth", command.only_read,
               "only: how fast the threads read memory together, as JSON");
}

}  // namespace

void add_bench_command(CLI::App& app, int& exit_code) {
  auto command = std::make_shared<BenchCommand>();  // owned by the callback below
  CLI::App* bench = app.add_subcommand("bench", "tokens per second, with llama-bench's flags");
  add_model_flags(*bench, *command);
  add_case_flags(*bench, command->bench);
  add_engine_flags(
      *bench, command->bench.engine,
      {"model", "threads", "parallel", "cache-type-k", "cache-type-v", "kv-keep-total"});
  bench->callback([command, &exit_code] {
    const auto outcome = run(*command);
    exit_code = outcome ? kExitOk : report_failure(outcome.error());
  });
}

}  // namespace larder
