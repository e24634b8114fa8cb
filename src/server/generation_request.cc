#include "server/generation_request.h"

#include <fmt/format.h>

#include <charconv>
#include <cstddef>
#include <nlohmann/json.hpp>

#include "server/generation_fields.h"

namespace larder {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMaxPrompts = 64;
constexpr std::size_t kMaxInputs = 256;  // of embeddings
constexpr std::int64_t kMaxDimensions = 1 << 20;
constexpr std::size_t kMaxStops = 16;
constexpr std::size_t kMaxStopBytes = 1024;
constexpr std::size_t kMaxBiases = 1024;
constexpr std::int64_t kMaxPriority = 1'000'000;
constexpr double kMaxTimeoutSeconds = 1e6;
constexpr std::int64_t kMaxSamples = 128;

void read_stop(FieldReader& fields, std::vector<std::string>& stop) {
  const Json* value = fields.any("stop");
  if (value == nullptr) return;
  const Json list = value->is_array() ? *value : Json::array({*value});
  if (list.size() > kMaxStops) {
    return fields.wrong(
        "stop", fmt::format("has {} texts, at most {} are allowed", list.size(), kMaxStops));
  }
  for (const Json& text : list) {
    if (!text.is_string() || text.get_ref<const std::string&>().empty() ||
        text.get_ref<const std::string&>().size() > kMaxStopBytes) {
      return fields.wrong("stop", fmt::format("must be texts of 1 to {} bytes, not {}",
                                              kMaxStopBytes, shown(text)));
    }
    stop.push_back(text.get<std::string>());
  }
}

void read_logit_bias(FieldReader& fields, std::vector<std::pair<std::int32_t, float>>& biases) {
  constexpr double kMost = 100;  // as OpenAI's
  const Json* value = fields.any("logit_bias");
  if (value == nullptr) return;
  if (!value->is_object() || value->size() > kMaxBiases) {
    return fields.wrong("logit_bias",
                        fmt::format("must be an object of at most {} token ids, not {}", kMaxBiases,
                                    shown(*value)));
  }
  for (auto it = value->begin(); it != value->end(); ++it) {
    const std::string& key = it.key();
    std::int32_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    const bool is_id = error == std::errc{} && end == key.data() + key.size() && id >= 0;
    const double bias = it->is_number() ? it->get<double>() : 2 * kMost;
    if (!is_id || !(bias >= -kMost && bias <= kMost)) {
      return fields.wrong(
          "logit_bias", fmt::format("must map token ids to numbers from -100 to 100, not {} to {}",
                                    shown(Json(key)), shown(*it)));
    }
    biases.emplace_back(id, static_cast<float>(bias));
  }
}

std::optional<float> read_float(FieldReader& fields, const char* name, double low, double high) {
  const auto value = fields.number(name, low, high);
  return value ? std::optional(static_cast<float>(*value)) : std::nullopt;
}

void read_sampling(FieldReader& fields, SamplingOverrides& sampling) {
  sampling.temperature = read_float(fields, "temperature", 0, 2);
  sampling.top_p = read_float(fields, "top_p", 0, 1);
  sampling.min_p = read_float(fields, "min_p", 0, 1);
  sampling.presence_penalty = read_float(fields, "presence_penalty", -2, 2);
  sampling.frequency_penalty = read_float(fields, "frequency_penalty", -2, 2);
  sampling.repetition_penalty = read_float(fields, "repetition_penalty", 0.01, 100);
  if (const auto k = fields.integer("top_k", -1, kMaxId)) {
    sampling.top_k = *k < 0 ? 0 : static_cast<std::uint32_t>(*k);  // vLLM's -1: all
  }
  if (const auto seed = fields.integer("seed", INT64_MIN, INT64_MAX)) {
    sampling.seed = static_cast<std::uint64_t>(*seed);
  }
  read_logit_bias(fields, sampling.logit_bias);
}

/// The budget may be a number, too. What the texts say is the engine's to judge.
void read_policy(FieldReader& fields, GenerationRequest& request) {
  request.kv_policy = fields.text("kv_policy", Request::kMaxPolicyBytes);
  const Json* keep = fields.any("kv_keep");
  if (keep != nullptr && keep->is_number()) {
    request.kv_keep = keep->dump();
  } else {
    request.kv_keep = fields.text("kv_keep", Request::kMaxKeepBytes);
  }
}

void read_stream_options(FieldReader& fields, GenerationRequest& request) {
  request.stream = fields.boolean("stream").value_or(false);
  const Json* value = fields.any("stream_options");
  if (value == nullptr) return;
  if (!value->is_object()) {
    return fields.wrong("stream_options", fmt::format("must be an object, not {}", shown(*value)));
  }
  if (!request.stream) return fields.wrong("stream_options", "needs 'stream': true");
  FieldReader options(*value, "stream_options.");
  request.include_usage = options.boolean("include_usage").value_or(false);
  fields.adopt(options);
  for (std::string& name : options.unread()) request.ignored.push_back(std::move(name));
}

constexpr const char* kAnyObject = R"({"type":"object"})";

/// OpenAI's forms, and llama.cpp's schema beside "json_object".
void read_response_format(FieldReader& fields, std::optional<std::string>& schema) {
  const Json* value = fields.any("response_format");
  if (value == nullptr) return;
  if (!value->is_object()) {
    return fields.wrong("response_format", fmt::format("must be an object, not {}", shown(*value)));
  }
  FieldReader format(*value, "response_format.");
  const std::string type = format.text("type", kMaxNameBytes).value_or("");
  const bool has_own = type == "json_schema";
  const Json* holder = has_own ? format.any("json_schema") : value;
  if (type == "text") return;
  if (!has_own && type != "json_object") {
    format.wrong("type", "must be \"text\", \"json_object\" or \"json_schema\"");
  } else if (holder == nullptr || !holder->is_object()) {
    format.wrong("json_schema", "must be an object with a 'schema'");
  } else if (holder->contains("schema")) {
    schema = (*holder)["schema"].dump();
  } else if (has_own) {
    format.wrong("json_schema.schema", "is missing");
  } else {
    schema = kAnyObject;
  }
  fields.adopt(format);
}

/// A list of token ids. False, and the error set, when something in it is none.
bool read_ids(FieldReader& fields, const char* name, const Json& list, std::vector<TokenId>& ids) {
  ids.reserve(list.size());
  for (const Json& value : list) {
    const auto id = whole_number(value, 0, kMaxId);
    if (!id) {
      fields.wrong(name, fmt::format("must be texts or token ids, not {}", shown(value)));
      return false;
    }
    ids.push_back(static_cast<TokenId>(*id));
  }
  return true;
}

void read_prompts(FieldReader& fields, const char* name, std::size_t max_prompts,
                  std::vector<Prompt>& prompts) {
  const Json* value = fields.any(name);
  if (value == nullptr) return fields.wrong(name, "is missing");
  const bool is_list = value->is_array();
  if (is_list && value->empty()) return fields.wrong(name, "is an empty list");
  const bool one = !is_list || value->front().is_number();
  if (!one && value->size() > max_prompts) {
    return fields.wrong(
        name, fmt::format("has {} prompts, at most {} are allowed", value->size(), max_prompts));
  }
  const std::size_t n = one ? 1 : value->size();
  for (std::size_t i = 0; i < n; ++i) {
    const Json& prompt = one ? *value : (*value)[i];
    if (prompt.is_string()) {
      prompts.emplace_back(prompt.get<std::string>());
    } else if (prompt.is_array()) {
      std::vector<TokenId> ids;
      if (!read_ids(fields, name, prompt, ids)) return;
      prompts.emplace_back(std::move(ids));
    } else {
      return fields.wrong(name, fmt::format("must be texts or token ids, not {}", shown(prompt)));
    }
  }
}

}  // namespace

void read_common_fields(FieldReader& fields, GenerationRequest& request) {
  request.model = fields.text("model", kMaxNameBytes);
  request.priority = static_cast<std::int32_t>(
      fields.integer("priority", -kMaxPriority, kMaxPriority).value_or(0));
  request.timeout_seconds = fields.number("timeout", 0, kMaxTimeoutSeconds).value_or(0);
  request.cache_salt = fields.text("cache_salt", kMaxNameBytes).value_or("");
}

void read_shared_fields(FieldReader& fields, GenerationRequest& request) {
  read_common_fields(fields, request);
  request.n = static_cast<std::uint32_t>(fields.integer("n", 1, kMaxSamples).value_or(1));
  request.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  read_stream_options(fields, request);
  read_policy(fields, request);
  read_stop(fields, request.stop);
  read_sampling(fields, request.sampling);
  read_response_format(fields, request.schema);
  for (const char* name : {"guided_json", "guided_regex", "guided_choice", "guided_grammar",
                           "structured_outputs", "grammar"}) {
    fields.unsupported(name, "'response_format' takes a JSON schema");
  }
}

ApiResult<GenerationRequest> finish_request(FieldReader& fields, GenerationRequest request) {
  if (fields.error()) return refuse(*fields.error());
  for (std::string& name : fields.unread()) request.ignored.push_back(std::move(name));
  return request;
}

SamplingOptions SamplingOverrides::over(SamplingOptions base) const {
  base.temperature = temperature.value_or(base.temperature);
  base.top_p = top_p.value_or(base.top_p);
  base.min_p = min_p.value_or(base.min_p);
  base.top_k = top_k.value_or(base.top_k);
  base.repetition_penalty = repetition_penalty.value_or(base.repetition_penalty);
  base.presence_penalty = presence_penalty.value_or(base.presence_penalty);
  base.frequency_penalty = frequency_penalty.value_or(base.frequency_penalty);
  base.seed = seed.value_or(base.seed);
  base.logit_bias.insert(base.logit_bias.end(), logit_bias.begin(), logit_bias.end());
  return base;
}

ApiResult<GenerationRequest> parse_completion_request(std::string_view body) {
  auto json = parse_object(body);
  if (!json) return refuse(std::move(json).error());
  FieldReader fields(*json);
  GenerationRequest request;
  read_shared_fields(fields, request);
  read_prompts(fields, "prompt", kMaxPrompts, request.prompts);
  request.echo = fields.boolean("echo").value_or(false);
  const auto max_tokens = fields.integer("max_tokens", request.echo ? 0 : 1, kMaxId);
  request.max_tokens = static_cast<std::uint32_t>(max_tokens.value_or(16));  // OpenAI's default
  request.n_logprobs =
      static_cast<std::int32_t>(fields.integer("logprobs", 0, kMaxTopLogprobs).value_or(-1));
  if (request.echo && request.n_logprobs > 0) {
    fields.wrong("logprobs",
                 "above 0 cannot be had with 'echo': other tokens are not ranked for prompts",
                 "unsupported");
  }
  fields.unsupported("suffix", "the model fills in no gaps");
  const auto best_of = fields.integer("best_of", 1, kMaxSamples);
  if (best_of && *best_of != request.n) {
    fields.wrong("best_of", "is not supported beyond 'n': all continuations are returned",
                 "unsupported");
  }
  return finish_request(fields, std::move(request));
}

ApiResult<GenerationRequest> parse_embedding_request(std::string_view body) {
  auto json = parse_object(body);
  if (!json) return refuse(std::move(json).error());
  FieldReader fields(*json);
  GenerationRequest request;
  request.embeds = true;
  read_common_fields(fields, request);
  read_prompts(fields, "input", kMaxInputs, request.prompts);
  const std::string format = fields.text("encoding_format", kMaxNameBytes).value_or("float");
  request.base64 = format == "base64";
  if (!request.base64 && format != "float") {
    fields.wrong("encoding_format", "must be \"float\" or \"base64\"");
  }
  if (const auto n = fields.integer("dimensions", 1, kMaxDimensions)) {
    request.dimensions = static_cast<std::uint32_t>(*n);
  }
  return finish_request(fields, std::move(request));
}

}  // namespace larder
