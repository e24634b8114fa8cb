#include "run_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "flag_values.h"
#include "model/config.h"
#include "model/text/tokenizer.h"
#include "table.h"

namespace larder {
namespace {

std::string format_seconds(double seconds) {
  if (seconds < 0.001) return fmt::format("{:.0f} us", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.1f} ms", seconds * 1e3);
  return fmt::format("{:.2f} s", seconds);
}

using Json = nlohmann::ordered_json;

double per_second(std::uint64_t n, double seconds) {
  return seconds > 0 ? static_cast<double>(n) / seconds : 0;
}

std::string rate_text(std::uint64_t n, double seconds) {
  if (seconds <= 0) return fmt::format("{} tokens", n);
  return fmt::format("{} tokens in {}, {:.1f} tokens/s", n, format_seconds(seconds),
                     per_second(n, seconds));
}

std::string model_name(const Engine& engine) {
  const ModelConfig& config = engine.config();
  const std::string& name = config.name.empty() ? engine.options().model_path : config.name;
  return fmt::format("{} ({})", name, config.arch);
}

Json logprob_json(const Engine& engine, const TokenLogprob& entry) {
  Json json;
  json["token"] = entry.token;
  json["text"] = engine.tokenizer().piece(entry.token, true);
  json["logprob"] = entry.logprob;
  return json;
}

Json sample_json(const Engine& engine, const GeneratedSample& sample) {
  Json json;
  json["text"] = sample.text;
  json["tokens"] = Json::array();
  Json logprobs = Json::array();
  for (const GeneratedToken& token : sample.tokens) {
    json["tokens"].push_back(token.token);
    if (!token.logprob) continue;
    Json entry = logprob_json(engine, *token.logprob);
    entry["top"] = Json::array();
    for (const TokenLogprob& other : token.top) {
      entry["top"].push_back(logprob_json(engine, other));
    }
    logprobs.push_back(std::move(entry));
  }
  if (!logprobs.empty()) json["logprobs"] = std::move(logprobs);
  json["finish_reason"] = finish_name(sample.finish);
  return json;
}

Json timing_json(const RunTotals& totals) {
  Json json;
  json["prefill_tokens"] = totals.n_prefilled_tokens;
  json["prefill_seconds"] = totals.prefill_seconds;
  json["prefill_tokens_per_second"] = per_second(totals.n_prefilled_tokens, totals.prefill_seconds);
  json["decode_tokens"] = totals.n_decoded_tokens;
  json["decode_seconds"] = totals.decode_seconds;
  json["decode_tokens_per_second"] = per_second(totals.n_decoded_tokens, totals.decode_seconds);
  json["first_token_seconds"] = totals.first_token_seconds;
  return json;
}

Json kv_json(const Engine& engine) {
  const EngineStats stats = engine.stats();
  Json json;
  json["type_k"] = engine.options().kv.type_k;
  json["type_v"] = engine.options().kv.type_v;
  json["layers"] = engine.options().kv.layers;
  json["block_tokens"] = engine.options().kv.block_tokens;
  json["bytes"] = stats.kv_bytes;
  json["peak_bytes"] = stats.kv_peak_bytes;
  json["budget_bytes"] = stats.kv_budget_bytes;
  json["bytes_per_token"] = engine.kv_bytes_per_token();
  return json;
}

}  // namespace

void RunTotals::add(const Generation& generation) {
  n_prompt_tokens += generation.n_prompt_tokens;
  n_reused_tokens += generation.n_reused_tokens;
  n_prefilled_tokens += generation.n_prefilled_tokens;
  n_decoded_tokens += generation.n_decoded_tokens;
  for (const auto& sample : generation.samples) n_generated_tokens += sample.tokens.size();
  prefill_seconds += generation.prefill_seconds;
  decode_seconds += generation.decode_seconds;
  first_token_seconds = generation.first_token_seconds;
}

std::string run_summary(const Engine& engine, const RunTotals& totals) {
  const EngineStats stats = engine.stats();
  const auto bytes = [](std::uint64_t n) { return show_bytes(static_cast<double>(n)); };
  std::string prompt = fmt::format("{} tokens", totals.n_prompt_tokens);
  if (totals.n_reused_tokens > 0) {
    prompt += fmt::format(", {} of them from the kept cache", totals.n_reused_tokens);
  }
  const KvOptions& kv = engine.options().kv;
  std::string formats;  // with others by layer, "engine" says them
  if (kv.layers.empty()) formats = fmt::format(" (K {}, V {})", kv.type_k, kv.type_v);
  std::string in_use;  // a completion has ended by now and holds nothing
  if (stats.kv_bytes > 0) in_use = bytes(stats.kv_bytes) + " in use, ";
  return fact_list({
      {"model", model_name(engine)},
      {"prompt", prompt},
      {"generated", fmt::format("{} tokens, seed {}", totals.n_generated_tokens, totals.seed)},
      {"prefill", rate_text(totals.n_prefilled_tokens, totals.prefill_seconds)},
      {"decode", rate_text(totals.n_decoded_tokens, totals.decode_seconds)},
      {"first token", "after " + format_seconds(totals.first_token_seconds)},
      {"KV cache", in_use + fmt::format("{} at most, budget {}", bytes(stats.kv_peak_bytes),
                                        bytes(stats.kv_budget_bytes))},
      {"KV per token", fmt::format("{} bytes", engine.kv_bytes_per_token()) + formats},
      {"engine", engine.description()},
  });
}

nlohmann::ordered_json run_json(const Engine& engine, const Generation& generation,
                                const RunTotals& totals) {
  Json json;
  json["model"] = model_name(engine);
  json["prompt_tokens"] = generation.n_prompt_tokens;
  json["generated_tokens"] = totals.n_generated_tokens;
  json["seed"] = totals.seed;
  json["samples"] = Json::array();
  for (const GeneratedSample& sample : generation.samples) {
    json["samples"].push_back(sample_json(engine, sample));
  }
  json["timing"] = timing_json(totals);
  json["kv"] = kv_json(engine);
  json["engine"] = engine.description();
  return json;
}

}  // namespace larder
