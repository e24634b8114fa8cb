#include "calibration.h"

#include <algorithm>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/fail.h"
#include "cached_context.h"
#include "flag_values.h"
#include "larder/engine.h"
#include "model/config.h"
#include "model/text/tokenizer.h"
#include "open_engine.h"
#include "perplexity.h"
#include "progress.h"
#include "terminal.h"
#include "text_input.h"

namespace larder {
namespace {

constexpr std::uint64_t kMaxMomentBytes = 8ULL << 30;
constexpr double kRidge = 0.01;

Result<void> check_size(const Engine& engine) {
  const ModelConfig& c = engine.config();
  const std::uint64_t width = std::uint64_t{c.n_embd} + 1;
  const std::uint64_t bytes = c.n_layers * width * width * sizeof(double);
  if (bytes <= kMaxMomentBytes) return {};
  return fail(Errc::invalid_argument,
              "{}: calibrating takes {} ({} layers x {}^2 x 8 bytes), at most {} are used",
              engine.options().model_path, show_bytes(static_cast<double>(bytes)), c.n_layers,
              width, show_bytes(static_cast<double>(kMaxMomentBytes)));
}

/// Adds the rows of one step, with a 1 behind each.
void add_rows(std::span<const float> rows, std::size_t n_embd, std::vector<double>& memory,
              Matrix& sum) {
  const std::size_t n = rows.size() / n_embd;
  memory.assign(n * (n_embd + 1), 1.0);
  for (std::size_t r = 0; r < n; ++r) {
    std::ranges::copy(rows.subspan(r * n_embd, n_embd),
                      memory.begin() + static_cast<std::ptrdiff_t>(r * (n_embd + 1)));
  }
  add_outer_products(memory, n_embd + 1, sum);
}

}  // namespace

Result<void> run_windows(Engine& engine, std::span<const TokenId> tokens) {
  ProgressBar bar("calibrate");
  const InterruptGuard guard;
  const bool bos = begins_with_bos(engine.tokenizer());  // as measurements of perplexity do it
  const std::size_t window = std::max(2U, engine.options().n_context) - (bos ? 1 : 0);
  for (std::size_t begin = 0; begin < tokens.size(); begin += window) {
    const auto part = tokens.subspan(begin, std::min(window, tokens.size() - begin));
    Request request;
    if (bos) request.prompt.push_back(engine.tokenizer().data().bos);
    request.prompt.insert(request.prompt.end(), part.begin(), part.end());
    request.max_tokens = 1;
    request.sampling.temperature = 0;
    LARDER_ASSIGN([[maybe_unused]] const RequestId id, engine.submit(std::move(request)));
    LARDER_TRY(run_until_idle(engine));
    bar.update(static_cast<double>(begin + part.size()) / static_cast<double>(tokens.size()));
  }
  return {};
}

Result<InputMoments> measure_input_moments(const CalibrationOptions& options) {
  LARDER_ASSIGN(const std::string text, read_text_file(options.text_path, kMaxTextBytes));
  LARDER_ASSIGN(const auto engine, open_engine(options.engine));
  LARDER_TRY(check_size(*engine));
  const auto tokens = literal_tokens(engine->tokenizer(), text, options.max_tokens);
  if (tokens.empty()) {
    return fail(Errc::invalid_argument, "{}: the text is empty", options.text_path);
  }
  const std::size_t n_embd = engine->config().n_embd;
  InputMoments moments(engine->config().n_layers);
  for (InputMoment& moment : moments) moment.full = Matrix(n_embd + 1, n_embd + 1);
  std::vector<double> memory;
  engine->observe_attention([&](std::uint32_t layer, std::span<const float> rows) {
    add_rows(rows, n_embd, memory, moments[layer].full);
  });
  LARDER_TRY(run_windows(*engine, tokens));
  for (InputMoment& moment : moments) {
    const double n_rows = moment.full(n_embd, n_embd);  // ones times ones
    for (double& x : moment.full.values) x /= n_rows;
    for (std::size_t i = 0; i < n_embd; ++i) moment.full(i, i) *= 1 + kRidge;
  }
  return moments;
}

}  // namespace larder
