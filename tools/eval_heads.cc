#include "eval_heads.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/fail.h"
#include "engine_flags.h"
#include "failure.h"
#include "flag_values.h"
#include "head_reach.h"
#include "json_output.h"
#include "model/io/output_file.h"

namespace larder {
namespace {

struct HeadsFlags {
  HeadReachOptions options;
  std::string output_path;
  bool json = false;
};

/// What policy/head_budgets.h reads.
std::string file_text(const HeadsFlags& flags, const HeadWeights& heads) {
  std::string text = fmt::format(
      "# {}: share of attention beyond {} first and {} newest tokens, a line for each layer\n",
      flags.options.engine.model_path, flags.options.sinks, flags.options.recent);
  for (std::uint32_t l = 0; l < heads.n_layers; ++l) {
    for (std::uint32_t h = 0; h < heads.n_heads; ++h) {
      text += fmt::format("{}{:.6f}", h == 0 ? "" : "\t",
                          heads.weights[std::size_t{l} * heads.n_heads + h]);
    }
    text += '\n';
  }
  return text;
}

nlohmann::ordered_json to_json(const HeadWeights& heads) {
  auto layers = nlohmann::ordered_json::array();
  for (std::uint32_t l = 0; l < heads.n_layers; ++l) {
    const auto begin = heads.weights.begin() + static_cast<std::ptrdiff_t>(l) * heads.n_heads;
    layers.push_back(std::vector<float>(begin, begin + heads.n_heads));
  }
  return {{"n_layers", heads.n_layers}, {"n_kv_heads", heads.n_heads}, {"weights", layers}};
}

/// The heads that look farthest, and how much of all far attention half of the heads have.
std::string summary(const HeadWeights& heads) {
  std::vector<std::pair<float, std::size_t>> order;
  double sum = 0, of_half = 0;
  for (std::size_t i = 0; i < heads.weights.size(); ++i) {
    order.emplace_back(heads.weights[i], i);
    sum += double{heads.weights[i]};
  }
  std::stable_sort(order.begin(), order.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  for (std::size_t i = 0; i < (order.size() + 1) / 2; ++i) of_half += double{order[i].first};
  std::string text;
  for (std::size_t i = 0; i < std::min<std::size_t>(order.size(), 10); ++i) {
    text += fmt::format("layer {:2}, KV head {:2}: {:.3f}\n", order[i].second / heads.n_heads,
                        order[i].second % heads.n_heads, order[i].first);
  }
  return text + fmt::format("half of the {} heads have {:.1f} % of the far attention\n",
                            order.size(), sum > 0 ? 100 * of_half / sum : 0.0);
}

Result<void> run(const HeadsFlags& flags) {
  LARDER_TRY(validate(flags.options.engine));
  LARDER_TRY(check_output_files({flags.output_path}));
  LARDER_ASSIGN(const HeadWeights heads, measure_head_reach(flags.options));
  if (!flags.output_path.empty()) {
    LARDER_TRY(write_file(flags.output_path, file_text(flags, heads)));
  }
  if (flags.json) {
    print_json(to_json(heads));
  } else {
    std::fputs(summary(heads).c_str(), stdout);
  }
  return {};
}

}  // namespace

void add_eval_heads_command(CLI::App& eval, int& exit_code) {
  auto flags = std::make_shared<HeadsFlags>();  // owned by the callback below
  HeadReachOptions& options = flags->options;
  CLI::App* command = eval.add_subcommand(
      "heads", "which KV heads look far: weights for --kv-policy ...heads=FILE");
  command->add_option("-o,--output", flags->output_path, "file to write: a line for each layer");
  add_number(*command, "--words", options.n_words, "tokens of a passage, which comes twice");
  add_number(*command, "--passages", options.n_passages, "passages whose mean is taken");
  add_number(*command, "--sinks", options.sinks, "first tokens that every head keeps");
  add_number(*command, "--recent", options.recent, "newest tokens that every head keeps");
  add_number(*command, "--seed", options.seed, "of the passages");
  command->add_flag("--json", flags->json, "one JSON object instead of text");
  add_engine_flags(*command, options.engine,
                   {"parallel", "ctx-size", "cache-type-k", "cache-type-v", "kv-layers",
                    "kv-raw-blocks", "kv-calibration", "block-size", "kv-policy", "kv-keep",
                    "kv-keep-total", "kv-memory", "isa"});
  command->callback([flags, &exit_code] {
    const auto outcome = run(*flags);
    exit_code = outcome ? kExitOk : report_failure(outcome.error());
  });
}

}  // namespace larder
