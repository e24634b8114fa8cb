#include "eval_kl.h"

#include <cstdio>
#include <memory>
#include <string>

#include "base/fail.h"
#include "continuation_report.h"
#include "divergence_report.h"
#include "engine_flags.h"
#include "failure.h"
#include "flag_values.h"
#include "json_output.h"

namespace larder {
namespace {

struct KlFlags {
  DivergenceFlags measure;
  ContextFlags contexts;
  std::string reference_path;  // empty: the same model
  std::string type_k, type_v;  // of the reference; empty: bf16
  bool json = false;
};

Result<void> run(KlFlags& flags) {
  EngineOptions& reference = flags.measure.reference;
  reference = flags.measure.model;
  // bf16, and a budget of its own: that of one model is none for another.
  reference.kv = {};
  reference.kv.block_tokens = flags.measure.model.kv.block_tokens;
  if (!flags.reference_path.empty()) reference.model_path = flags.reference_path;
  if (!flags.type_k.empty()) reference.kv.type_k = kv_format_name(flags.type_k);
  if (!flags.type_v.empty()) reference.kv.type_v = kv_format_name(flags.type_v);
  if (!flags.contexts.contexts.empty()) {
    if (flags.measure.stride != 0) {
      return fail(Errc::invalid_argument, "--stride moves sliding windows, with --contexts {}",
                  "there are none");
    }
    LARDER_ASSIGN(const auto reports, run_divergence_at(flags.measure, flags.contexts));
    if (flags.json) {
      print_json(divergence_list(reports));
    } else {
      std::fputs(divergence_table(reports).c_str(), stdout);
    }
    return {};
  }
  LARDER_ASSIGN(const auto report, run_divergence(flags.measure));
  if (flags.json) {
    print_json(divergence_json(report));
  } else {
    std::fputs(divergence_text(report, "reference", "model").c_str(), stdout);
  }
  return {};
}

}  // namespace

void add_eval_kl_command(CLI::App& eval, int& exit_code) {
  auto flags = std::make_shared<KlFlags>();  // owned by the callback below
  DivergenceFlags& measure = flags->measure;
  CLI::App* command = eval.add_subcommand(
      "kl", "KL divergence from a reference: another model, or other storage formats");
  command->add_option("--text,FILE", measure.text_path, "UTF-8 text")->required();
  command->add_option("--reference", flags->reference_path,
                      "model to compare with, of the same vocabulary (default: the same model)");
  command->add_option("--reference-cache-type-k", flags->type_k,
                      "the reference's format of keys (default: bf16)");
  command->add_option("--reference-cache-type-v", flags->type_v,
                      "the reference's format of values (default: bf16)");
  add_number(*command, "--stride", measure.stride,
             "tokens by which the window moves (0: half the context)");
  add_number(*command, "--max-tokens", measure.max_tokens, "tokens of the text (0: all)");
  add_context_flags(*command, flags->contexts);
  command->add_flag("--json", flags->json,
                    "JSON instead of text: one object, with --contexts a list of them");
  add_engine_flags(*command, measure.model, {"parallel", "kv-keep-total"});
  command->callback([flags, &exit_code] {
    const auto outcome = run(*flags);
    exit_code = outcome ? kExitOk : report_failure(outcome.error());
  });
}

}  // namespace larder
