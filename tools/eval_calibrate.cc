#include "eval_calibrate.h"

#include <cstdio>
#include <memory>
#include <string>

#include "base/fail.h"
#include "engine_flags.h"
#include "failure.h"
#include "flag_values.h"
#include "key_moments.h"
#include "model/io/output_file.h"

namespace larder {
namespace {

struct CalibrateFlags {
  CalibrationOptions options;
  std::string output_path;
};

Result<void> run(const CalibrateFlags& flags) {
  LARDER_TRY(validate(flags.options.engine));
  LARDER_TRY(check_output_files({flags.output_path}));
  LARDER_ASSIGN(const KeyCalibration calibration, measure_keys(flags.options));
  const std::string text = key_calibration_text(calibration);
  // What cannot be read again (keys that are no numbers) is not written.
  LARDER_TRY(parse_key_calibration(text, flags.options.engine.model_path));
  LARDER_TRY(write_file(flags.output_path, text));
  const std::string said = fmt::format(
      "{}: {} layers x {} KV heads x {} channels, from {} tokens\n", flags.output_path,
      calibration.layers.size(), calibration.n_heads, calibration.head_dim, calibration.n_tokens);
  std::fputs(said.c_str(), stdout);
  return {};
}

}  // namespace

void add_eval_calibrate_command(CLI::App& eval, int& exit_code) {
  auto flags = std::make_shared<CalibrateFlags>();  // owned by the callback below
  CalibrationOptions& options = flags->options;
  options.max_tokens = 16384;
  CLI::App* command = eval.add_subcommand(
      "calibrate", "what kvq formats need to know of a model's keys: --kv-calibration reads it");
  command->add_option("-f,--text,FILE", options.text_path, "UTF-8 text, not one to be scored")
      ->required();
  command->add_option("-o,--output", flags->output_path, "file to write")->required();
  add_number(*command, "--max-tokens", options.max_tokens, "tokens of the text (0: all)");
  add_engine_flags(
      *command, options.engine,
      {"parallel", "cache-type-k", "cache-type-v", "kv-layers", "kv-raw-blocks", "kv-calibration",
       "block-size", "kv-policy", "kv-keep", "kv-keep-total", "kv-memory", "isa"});
  command->callback([flags, &exit_code] {
    const auto outcome = run(*flags);
    exit_code = outcome ? kExitOk : report_failure(outcome.error());
  });
}

}  // namespace larder
