// The routes of the cache: what is in it, why a prompt was not, what shall stay and go.
#include <nlohmann/json.hpp>
#include <utility>

#include "model/config.h"
#include "server/api.h"
#include "server/api_answer.h"
#include "server/json_input.h"

namespace larder {
namespace {

using Json = nlohmann::ordered_json;

ApiAnswer no_engine() {
  return refusal({503, "the server is shutting down", std::nullopt, "unavailable"});
}

Json layers_json(const CacheView::Sequence& sequence) {
  Json list = Json::array();
  for (const CacheView::Layers& layers : sequence.layers) {
    Json json;
    json["first_layer"] = layers.first_layer;
    json["n_layers"] = layers.n_layers;
    json["blocks"] = layers.n_blocks;
    json["shared_blocks"] = layers.n_shared;
    json["bytes"] = layers.bytes;
    list.push_back(std::move(json));
  }
  return list;
}

Json sequence_json(const CacheView::Sequence& sequence) {
  Json json;
  json["sequence"] = sequence.request;
  json["sample"] = sequence.sample;
  json["state"] = sequence.state;
  json["prompt_tokens"] = sequence.n_prompt_tokens;
  json["tokens"] = sequence.n_tokens;
  json["rows"] = sequence.n_rows;
  json["cached_tokens"] = sequence.n_reused_tokens;
  json["layers"] = layers_json(sequence);
  return json;
}

Json tree_json(const CacheView& view) {
  Json json;
  json["enabled"] = view.prefix_caching;
  json["stripes"] = view.n_stripes;
  json["pinned_stripes"] = view.n_pinned_stripes;
  json["salts"] = view.n_salts;
  json["longest_prefix_tokens"] = view.longest_prefix;
  json["bytes"] = view.tree_bytes;
  json["idle_bytes"] = view.idle_bytes;
  json["evicted_stripes"] = view.n_evicted;
  json["dropped_stripes"] = view.n_dropped;
  json["deduplicated_blocks"] = view.n_deduplicated_blocks;
  return json;
}

/// Names the sequence by its number in GET /cache: with the id of its request anybody could ask on.
Json gone_json(const std::optional<PrefixReport::Gone>& gone) {
  if (!gone) return nullptr;
  Json json;
  json["step"] = gone->step;
  json["seconds_before"] = gone->seconds_ago;
  json["by_sequence"] = gone->by_request == 0 ? Json() : Json(gone->by_request);
  return json;
}

/// The value of `name` in "a=b&c=d"; ids need no decoding.
std::string_view query_value(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const std::size_t end = std::min(query.find('&'), query.size());
    const std::string_view pair = query.substr(0, end);
    const std::size_t equals = pair.find('=');
    if (equals != std::string_view::npos && pair.substr(0, equals) == name) {
      return pair.substr(equals + 1);
    }
    query.remove_prefix(std::min(end + 1, query.size()));
  }
  return {};
}

std::string_view in_words(std::string_view reason) {
  if (reason == "covered") return "everything but the last token was cached";
  if (reason == "new_salt") return "nothing was cached under this cache_salt";
  if (reason == "differs") return "what is cached behind this place goes on differently";
  if (reason == "evicted") return "it was cached, and gave way when blocks ran short";
  if (reason == "dropped") return "it was cached, and dropped by POST /cache/drop";
  if (reason == "window") return "a sliding window had let go of rows that would be needed";
  if (reason == "sealed")
    return "the rest of the block is not the same, and it is encoded as a whole";
  return "nothing was ever cached behind this place";
}

}  // namespace

ApiAnswer Api::cache_view() const {
  CacheView view;
  EngineStats stats;
  const bool ran = loop_.call([&](Engine& engine) {
    view = engine.cache_view();
    stats = engine.stats();
  });
  if (!ran) return no_engine();
  Json json;
  json["model"] = options_.model_names.front();
  json["chat"] = chat_.has_value();
  json["format"] = view.format;
  json["block_tokens"] = view.block_tokens;
  json["bytes_per_token"] = engine_.kv_bytes_per_token();
  json["bytes"] = view.bytes;
  json["budget_bytes"] = view.budget_bytes;
  json["peak_bytes"] = view.peak_bytes;
  json["prefix_tree"] = tree_json(view);
  Json totals;
  totals["prefill_tokens"] = stats.n_prefill_tokens;
  totals["decode_tokens"] = stats.n_decode_tokens;
  totals["reused_tokens"] = stats.n_reused_tokens;
  totals["prefill_seconds"] = stats.prefill_seconds;
  totals["decode_seconds"] = stats.decode_seconds;
  totals["preemptions"] = stats.n_preempted;
  json["totals"] = std::move(totals);
  json["queued_requests"] = loop_.stats().n_queued;
  json["sequences"] = Json::array();
  for (const auto& sequence : view.sequences) json["sequences"].push_back(sequence_json(sequence));
  return json_answer(json);
}

ApiAnswer Api::explain(std::string_view query) const {
  const std::string id(query_value(query, "request"));
  if (id.empty()) {
    return refusal({400, "'request' is missing: /cache/explain?request=ID", "request",
                    "missing_required_parameter"});
  }
  const auto report = loop_.explain(id);
  if (!report) {
    return refusal({404, "no such request among the last 256 that began", "request", "not_found"});
  }
  Json json;
  json["request"] = id;
  json["prompt_tokens"] = report->n_prompt_tokens;
  json["cached_tokens"] = report->n_cached_tokens;
  json["reason"] = report->reason;
  json["explanation"] = in_words(report->reason);
  json["format"] = report->format;
  json["step"] = report->step;
  json["gone"] = gone_json(report->gone);
  const auto token_json = [this](TokenId id_of_token) -> Json {
    if (id_of_token < 0) return nullptr;
    Json token;
    token["id"] = id_of_token;
    token["text"] = engine_.tokenizer().decode({&id_of_token, 1}, true);
    return token;
  };
  json["first_token_not_cached"] = token_json(report->token);
  json["cached_token_there"] = token_json(report->cached_token);
  return json_answer(json);
}

ApiAnswer Api::change_cache(const ApiRequest& request) const {
  auto parsed = parse_object(request.body);
  if (!parsed) return refusal(parsed.error());
  FieldReader fields(*parsed);
  const auto prompt = fields.text("prompt", kMaxText);
  const Json* list = fields.any("tokens");
  const std::string salt = fields.text("cache_salt", kMaxNameBytes).value_or("");
  std::vector<TokenId> tokens;
  if (prompt) tokens = continuation_tokens(engine_.tokenizer(), *prompt);
  if (list != nullptr) {
    tokens = read_token_ids(fields, "tokens", *list, engine_.config().n_vocab);
  } else if (!prompt && request.path != "/cache/drop") {
    fields.wrong("prompt", "is missing");
  }
  if (fields.error()) return refusal(*fields.error());
  Json json;
  std::optional<Error> error;
  const bool ran = loop_.call([&](Engine& engine) {
    if (request.path == "/cache/pin") {
      const auto n = engine.pin_prefix(tokens, salt);
      if (n) json["pinned_tokens"] = *n;
      if (!n) error = n.error();
    } else if (request.path == "/cache/unpin") {
      json["unpinned_tokens"] = engine.unpin_prefix(tokens, salt);
    } else {
      json["dropped_stripes"] = engine.drop_prefix(tokens, salt);
    }
  });
  if (!ran) return no_engine();
  if (error) return refusal({400, error->message, "prompt", "invalid_value"});
  return json_answer(json);
}

}  // namespace larder
