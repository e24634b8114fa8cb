// Opening the two engines of a comparison, measuring, and showing what came out.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "divergence.h"
#include "larder/options.h"

namespace larder {

struct DivergenceFlags {
  EngineOptions model, reference;  // the reference's context and batch are taken from the model's
  std::string text_path;
  std::uint32_t stride = 0;      // 0: half the context
  std::uint64_t max_tokens = 0;  // 0: all
};

struct DivergenceReport {
  DivergenceResult result;
  std::string model_path, reference_path, text_path;
  std::string model_engine, reference_engine;                // what really ran
  std::uint64_t model_kv_bytes = 0, reference_kv_bytes = 0;  // per token, all layers
  std::uint32_t n_context = 0, stride = 0;
};

struct DivergenceEngines {
  std::unique_ptr<Engine> model, reference;  // one sequence each, of the same context
  std::string text;
};

/// Errors: those of the text and of the models.
Result<DivergenceEngines> open_divergence(const DivergenceFlags& flags);

/// What the report says of the engines; the result, the context and the stride are the caller's.
DivergenceReport divergence_report(const DivergenceFlags& flags, const DivergenceEngines& engines);

/// Draws a bar on a terminal. Errors: those of the text, the models and measure_divergence.
Result<DivergenceReport> run_divergence(const DivergenceFlags& flags);

/// "name   value" lines; the names of both sides are the caller's ("before", "after").
std::string divergence_text(const DivergenceReport& report, const std::string& reference_name,
                            const std::string& model_name);
nlohmann::ordered_json divergence_json(const DivergenceReport& report);

}  // namespace larder
