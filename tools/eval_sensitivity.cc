#include "eval_sensitivity.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/fail.h"
#include "engine_flags.h"
#include "failure.h"
#include "flag_values.h"
#include "json_output.h"
#include "layer_budget.h"
#include "model/config.h"
#include "model/io/model_source.h"
#include "model/io/output_file.h"
#include "sweep_run.h"
#include "table.h"
#include "text_input.h"

namespace larder {
namespace {

using Json = nlohmann::ordered_json;

struct SensitivityFlags {
  SweepPlan plan;
  std::vector<std::string> formats;
  std::uint32_t n_context = 512;
  std::uint64_t budget_bytes = 0;  // per token; 0: by `bits`
  double bits = 4.5;               // per element
  std::string text_path, store_path;
  std::string output_path;  // file for --kv-layers; empty: none
  bool json = false;
};

/// The plain configuration, then one with each side of each layer in each format.
Result<void> plan_configs(SensitivityFlags& flags, const ModelConfig& model,
                          std::vector<LayerSide>& sides) {
  SweepPlan& plan = flags.plan;
  const KvOptions& plain = plan.reference.kv;
  std::vector<std::string> lines = {"plain:"};
  for (std::uint32_t layer = 0; layer < model.n_layers; ++layer) {
    if (!model.owns_kv(layer)) continue;
    for (const bool is_key : {true, false}) {
      sides.push_back({layer, is_key, {{is_key ? plain.type_k : plain.type_v, 0, 0}}});
      for (const std::string& format : flags.formats) {
        lines.push_back(
            fmt::format("layer {} {} {}: --kv-layers {}:{}/{}", layer, is_key ? "K" : "V", format,
                        layer, is_key ? format : plain.type_k, is_key ? plain.type_v : format));
      }
    }
  }
  LARDER_ASSIGN(plan.configs, parse_sweep_configs(lines, plan.reference));
  plan.contexts = {flags.n_context};
  plan.speed_depths.clear();
  return {};
}

/// KL and bytes of the rows behind the plain one, in the order of plan_configs.
void fill_choices(const SensitivityFlags& flags, const std::vector<SweepRow>& rows,
                  std::vector<LayerSide>& sides) {
  const auto result = [&](std::size_t i) -> const Json& { return rows[i].kl.begin()->second; };
  const double plain_bytes = result(0).value("kv_bytes_per_token", 0.0);
  std::size_t next = 1;
  for (LayerSide& side : sides) {
    for (const std::string& format : flags.formats) {
      const std::size_t i = next++;
      if (!rows[i].refusal.empty()) continue;
      const Json& r = result(i);
      const double saved = plain_bytes - r.value("kv_bytes_per_token", 0.0);
      if (saved <= 0) continue;  // no smaller and no better
      side.choices.push_back({format, std::max(0.0, r.value("kl_mean", 0.0)),
                              static_cast<std::uint64_t>(std::llround(saved))});
    }
  }
}

/// The table under the budget, and what it came to.
struct Solution {
  std::string layers;      // value of --kv-layers
  double expected_kl = 0;  // sum over the sides
  double plain_bytes = 0, budget_bytes = 0;
  SweepRow measured;
};

Result<Solution> solve(SensitivityFlags& flags, const std::vector<LayerSide>& sides,
                       const std::vector<SweepRow>& rows, SweepStore& store) {
  const Json& plain = rows.front().kl.begin()->second;
  Solution solution;
  solution.plain_bytes = plain.value("kv_bytes_per_token", 0.0);
  const double bits = plain.value("bits_per_element", 16.0);
  solution.budget_bytes = flags.budget_bytes != 0 ? static_cast<double>(flags.budget_bytes)
                                                  : solution.plain_bytes * flags.bits / bits;
  const double saved = std::max(0.0, std::ceil(solution.plain_bytes - solution.budget_bytes));
  LARDER_ASSIGN(const auto chosen, choose_formats(sides, static_cast<std::uint64_t>(saved)));
  for (std::size_t i = 0; i < sides.size(); ++i) {
    solution.expected_kl += sides[i].choices[chosen[i]].kl;
  }
  solution.layers = kv_layers_text(sides, chosen);
  LARDER_ASSIGN(flags.plan.configs, parse_sweep_configs({"table: --kv-layers " + solution.layers},
                                                        flags.plan.reference));
  LARDER_ASSIGN(auto measured, run_sweep(flags.plan, store));
  solution.measured = std::move(measured.front());
  return solution;
}

std::string as_text(const SensitivityFlags& flags, const std::vector<LayerSide>& sides,
                    const Solution& solution) {
  Table table;
  table.header = {"layer"};
  table.header.insert(table.header.end(), flags.formats.begin(), flags.formats.end());
  for (const LayerSide& side : sides) {
    std::vector<std::string> row = {fmt::format("{} {}", side.layer, side.is_key ? "K" : "V")};
    for (const std::string& format : flags.formats) {
      const auto found = std::find_if(side.choices.begin() + 1, side.choices.end(),
                                      [&](const auto& c) { return c.format == format; });
      row.push_back(found == side.choices.end() ? "-" : fmt::format("{:.6f}", found->kl));
    }
    table.rows.push_back(std::move(row));
  }
  const Json& r = solution.measured.kl.begin()->second;
  return "KL, nats, of one layer's keys or values in each format (-: not supported, or no "
         "smaller)\n\n" +
         plain_table(table) + "\n" +
         fact_list(
             {{"--kv-layers", solution.layers},
              {"bytes per token",
               fmt::format("{:.0f} of {:.0f}, at most {:.0f}", r.value("kv_bytes_per_token", 0.0),
                           solution.plain_bytes, solution.budget_bytes)},
              {"bits per element", fmt::format("{:.2f}", r.value("bits_per_element", 0.0))},
              {"KL", fmt::format("{:.6f} measured, {:.6f} as the sum of the single ones",
                                 r.value("kl_mean", 0.0), solution.expected_kl)},
              {"same top token", fmt::format("{:.2f} %", 100 * r.value("top1_agreement", 0.0))}});
}

/// The table as --kv-layers reads it from a file, an entry a line.
std::string as_file(const SensitivityFlags& flags, const Solution& solution) {
  const Json& r = solution.measured.kl.begin()->second;
  std::string entries = solution.layers;
  std::replace(entries.begin(), entries.end(), ',', '\n');
  return fmt::format("# {:.0f} bytes per token, KL {:.6f} behind {} tokens\n{}\n",
                     r.value("kv_bytes_per_token", 0.0), r.value("kl_mean", 0.0), flags.n_context,
                     entries);
}

Json as_json(const std::vector<LayerSide>& sides, const Solution& solution) {
  Json list = Json::array();
  for (const LayerSide& side : sides) {
    for (auto choice = side.choices.begin() + 1; choice != side.choices.end(); ++choice) {
      list.push_back({{"layer", side.layer},
                      {"side", side.is_key ? "K" : "V"},
                      {"format", choice->format},
                      {"kl_mean", choice->kl},
                      {"saved_bytes_per_token", choice->saved_bytes}});
    }
  }
  return {{"sensitivity", std::move(list)},
          {"kv_layers", solution.layers},
          {"budget_bytes_per_token", solution.budget_bytes},
          {"expected_kl", solution.expected_kl},
          {"measured", solution.measured.kl.begin()->second}};
}

Result<void> run(SensitivityFlags& flags) {
  if (flags.formats.empty()) {
    return fail(Errc::invalid_argument, "--formats is needed: storage formats to choose from");
  }
  if (!(flags.bits > 0)) return fail(Errc::invalid_argument, "--bits is {}", flags.bits);
  LARDER_TRY(check_output_files({flags.output_path}));
  LARDER_ASSIGN(flags.plan.text, read_text_file(flags.text_path, kMaxTextBytes));
  LARDER_ASSIGN(const auto source, open_model(flags.plan.reference.model_path));
  std::vector<LayerSide> sides;
  LARDER_TRY(plan_configs(flags, source->config(), sides));
  LARDER_ASSIGN(SweepStore store, SweepStore::open(flags.store_path));
  LARDER_ASSIGN(const std::vector<SweepRow> rows, run_sweep(flags.plan, store));
  if (const std::string& refusal = rows.front().refusal; !refusal.empty()) {
    return fail(Errc::unsupported, "{}", refusal);
  }
  fill_choices(flags, rows, sides);
  LARDER_ASSIGN(const Solution solution, solve(flags, sides, rows, store));
  if (!flags.output_path.empty()) {
    LARDER_TRY(write_file(flags.output_path, as_file(flags, solution)));
  }
  if (flags.json) {
    print_json(as_json(sides, solution));
  } else {
    std::fputs(as_text(flags, sides, solution).c_str(), stdout);
  }
  return {};
}

}  // namespace

void add_eval_sensitivity_command(CLI::App& eval, int& exit_code) {
  auto flags = std::make_shared<SensitivityFlags>();  // owned by the callback below
  CLI::App* command = eval.add_subcommand(
      "sensitivity", "KL of each layer's keys and values in each format, and the best table");
  command->add_option("--text,FILE", flags->text_path, "UTF-8 text")->required();
  add_parsed(
      *command, "--formats", split_list,
      [flags](std::vector<std::string> names) { flags->formats = std::move(names); },
      "storage formats to choose from")
      ->type_name("NAME,...");
  CLI::Option* budget =
      add_bytes(*command, "--budget", flags->budget_bytes, "bytes per token of the table");
  add_number(*command, "--bits", flags->bits, "instead of --budget: bits per element")
      ->excludes(budget);
  add_number(*command, "--context", flags->n_context,
             "tokens that are cached before KL is measured");
  add_number(*command, "--continuation", flags->plan.continuation.n_continuation,
             "tokens that are scored behind a context");
  add_number(*command, "--windows", flags->plan.continuation.n_windows,
             "places of the text, at most");
  command->add_option("--results", flags->store_path,
                      "file of finished measurements: read first, then added to");
  command->add_option("-o,--output", flags->output_path,
                      "file for the table: --kv-layers @FILE reads it");
  command->add_flag("--json", flags->json, "one JSON object instead of text");
  add_engine_flags(*command, flags->plan.reference,
                   {"parallel", "ctx-size", "kv-keep-total", "kv-memory", "kv-layers"});
  command->callback([flags, &exit_code] {
    const auto outcome = run(*flags);
    exit_code = outcome ? kExitOk : report_failure(outcome.error());
  });
}

}  // namespace larder
