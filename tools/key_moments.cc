#include "key_moments.h"

#include <string>
#include <vector>

#include "base/fail.h"
#include "codec/fit_keys.h"
#include "model/config.h"
#include "open_engine.h"
#include "perplexity.h"
#include "text_input.h"

namespace larder {

Result<KeyCalibration> measure_keys(const CalibrationOptions& options) {
  LARDER_ASSIGN(const std::string text, read_text_file(options.text_path, kMaxTextBytes));
  LARDER_ASSIGN(const auto engine, open_engine(options.engine));
  const ModelConfig& config = engine->config();
  if (config.has_latent()) {
    return fail(Errc::unsupported,
                "{}: latent attention has no keys of heads before rope, and no kvq format",
                options.engine.model_path);
  }
  const auto tokens = literal_tokens(engine->tokenizer(), text, options.max_tokens);
  if (tokens.empty()) {
    return fail(Errc::invalid_argument, "{}: the text is empty", options.text_path);
  }
  const std::uint64_t stride = KeyFit::stride_of(tokens.size(), config.n_kv_heads, config.head_dim);
  std::vector<KeyFit> fits(config.n_layers, KeyFit(config.n_kv_heads, config.head_dim, stride));
  engine->observe_keys(
      [&](std::uint32_t layer, std::span<const float> rows) { fits[layer].add(rows); });
  LARDER_TRY(run_windows(*engine, tokens));
  KeyCalibration calibration{config.n_kv_heads, config.head_dim,
                             config.rope.n_rot, config.rope.style == RopeStyle::adjacent,
                             tokens.size(),     {}};
  for (std::uint32_t layer = 0; layer < config.n_layers; ++layer) {
    const bool owns = config.owns_kv(layer);
    calibration.layers.push_back(owns ? fits[layer].fit() : KeyCalibration::Layer{});
  }
  return calibration;
}

}  // namespace larder
