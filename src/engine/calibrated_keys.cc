#include "engine/calibrated_keys.h"

#include <algorithm>
#include <utility>

#include "base/fail.h"
#include "codec/key_calibration.h"
#include "engine/fingerprint.h"
#include "engine/small_file.h"
#include "model/rope_table.h"

namespace larder {
namespace {

Result<void> check_model(const KeyCalibration& keys, const ModelConfig& config,
                         const std::string& path) {
  const bool adjacent = config.rope.style == RopeStyle::adjacent;
  const auto text = [](std::size_t layers, std::uint32_t heads, std::uint32_t channels, bool pairs,
                       std::uint32_t n_rot) {
    return fmt::format("{} layers x {} KV heads x {} channels, {} of them turned in {}", layers,
                       heads, channels, n_rot, pairs ? "adjacent pairs" : "halves");
  };
  const std::string of_file =
      text(keys.layers.size(), keys.n_heads, keys.head_dim, keys.adjacent, keys.n_rot);
  const std::string of_model =
      text(config.n_layers, config.n_kv_heads, config.head_dim, adjacent, config.rope.n_rot);
  if (of_file == of_model) return {};
  return fail(Errc::invalid_argument, "kv-calibration: '{}' is of another model: {}, this has {}",
              path, of_file, of_model);
}

/// Keys before rope are cached with the amplitude that rope would give them.
KeyTable key_table(const KeyCalibration::Layer& layer, const BeforeRope& format, float amplitude) {
  KeyTable table;
  table.book = make_key_book(format.bits, layer.tables[table_index(format)]);
  for (const float mean : layer.mean) table.mean.push_back(mean * amplitude);
  for (const float spread : layer.spread) {
    table.spread.push_back(spread * amplitude);
    table.inverse.push_back(1 / table.spread.back());
  }
  return table;
}

bool has_own_rope(const ModelConfig& config, std::uint32_t layer) {
  return config.rope.local_base != 0 && config.layer_window(layer) != 0;
}

}  // namespace

Result<std::shared_ptr<const CalibratedKeys>> calibrated_keys(
    const ModelConfig& config, const EngineOptions& options,
    const std::vector<KvFormats>& formats) {
  const auto needs = [](const KvFormats& of) { return of.k->before_rope != nullptr; };
  const auto first = std::find_if(formats.begin(), formats.end(), needs);
  if (first == formats.end()) return nullptr;
  const std::string& path = options.kv.calibration;
  if (path.empty()) {
    return fail(Errc::invalid_argument,
                "cache-type-k {} of layer {} needs a kv-calibration: a file that `larder eval "
                "calibrate` writes for this model",
                first->k->name, first - formats.begin());
  }
  LARDER_ASSIGN(const std::string text,
                read_small_file("kv-calibration", path, kMaxKeyCalibrationBytes));
  LARDER_ASSIGN(const KeyCalibration calibration,
                parse_key_calibration(text, fmt::format("kv-calibration '{}'", path)));
  LARDER_TRY(check_model(calibration, config, path));
  CalibratedKeys keys;
  for (const bool local : {false, true}) {
    if (local && config.rope.local_base == 0) continue;
    keys.angles.emplace_back(make_rope_table(config, local, options.n_context),
                             options.kv.block_tokens, options.n_context);
  }
  keys.tables.resize(config.n_layers);
  for (std::uint32_t layer = 0; layer < config.n_layers; ++layer) {
    if (!needs(formats[layer]) || !config.owns_kv(layer)) continue;
    if (calibration.layers[layer].mean.empty()) {
      return fail(Errc::invalid_argument, "kv-calibration: '{}' says nothing of layer {}", path,
                  layer);
    }
    const float amplitude = has_own_rope(config, layer) ? 1.0F : rope_amplitude(config.rope);
    keys.tables[layer] =
        key_table(calibration.layers[layer], *formats[layer].k->before_rope, amplitude);
  }
  keys.digest = text_digest(text);
  return std::make_shared<const CalibratedKeys>(std::move(keys));
}

void set_keys(const ModelConfig& config, const CalibratedKeys& keys, std::span<KvLayout> layouts) {
  for (std::uint32_t layer = 0; layer < layouts.size(); ++layer) {
    if (layouts[layer].k->before_rope == nullptr) continue;
    const std::uint32_t owner = config.owner(layer);
    layouts[layer].key_table = &keys.tables[owner];
    layouts[layer].angles = &keys.angles[has_own_rope(config, owner) ? 1 : 0];
  }
}

}  // namespace larder
