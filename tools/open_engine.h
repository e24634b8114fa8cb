// Opening the engine with a bar on the terminal.
#pragma once

#include <memory>

#include "larder/engine.h"
#include "progress.h"

namespace larder {

inline Result<std::unique_ptr<Engine>> open_engine(const EngineOptions& options) {
  ProgressBar bar("loading");
  return Engine::open(options, [&bar](float fraction) { bar.update(fraction); });
}

}  // namespace larder
