// larder eval: how good a model is, through the path that serves.
#include "commands.h"
#include "eval_calibrate.h"
#include "eval_heads.h"
#include "eval_kl.h"
#include "eval_perplexity.h"
#include "eval_retrieval.h"
#include "eval_sensitivity.h"
#include "eval_sweep.h"

namespace larder {

void add_eval_command(CLI::App& app, int& exit_code) {
  CLI::App* eval = app.add_subcommand("eval", "measure the quality of a model");
  eval->require_subcommand(1);
  add_eval_perplexity_command(*eval, exit_code);
  add_eval_kl_command(*eval, exit_code);
  add_eval_retrieval_commands(*eval, exit_code);
  add_eval_sweep_command(*eval, exit_code);
  add_eval_sensitivity_command(*eval, exit_code);
  add_eval_heads_command(*eval, exit_code);
  add_eval_calibrate_command(*eval, exit_code);
}

}  // namespace larder
