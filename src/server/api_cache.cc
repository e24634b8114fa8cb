// The routes of the cache: what is in it, why a prompt was not, what shall stay and go.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

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
  json["policy"] = sequence.policy;
  json["cached_tokens"] = sequence.n_reused_tokens;
  json["layers"] = layers_json(sequence);
  return json;
}

Json blocks_json(const CacheView::Blocks& blocks) {
  Json json;
  json["format"] = blocks.format;
  json["block_bytes"] = blocks.bytes;
  json["open"] = blocks.n_open;
  json["sealed"] = blocks.n_sealed;
  json["shared"] = blocks.n_shared;
  json["kept"] = blocks.n_kept;
  json["free"] = blocks.n_free;
  return json;
}

Json tree_json(const CacheView& view) {
  Json json;
  json["enabled"] = view.prefix_caching;
  json["stripes"] = view.n_stripes;
  json["pinned_stripes"] = view.n_pinned_stripes;
  json["salts"] = view.n_salts;
  json["compressed_prefixes"] = view.n_compressed;
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
  if (reason == "new_salt")
    return "nothing is cached under this cache_salt, and nothing of this prompt ever was";
  if (reason == "differs") return "what is cached behind this place goes on differently";
  if (reason == "evicted") return "it was cached, and gave way when blocks ran short";
  if (reason == "dropped") return "it was cached, and dropped by POST /cache/drop";
  if (reason == "window") return "a sliding window had let go of rows that would be needed";
  if (reason == "sealed")
    return "the rest of the block is not the same, and it is encoded as a whole";
  if (reason == "policy")
    return "rows behind this place are dropped, or their attention counted, by the kv-policy";
  return "nothing was ever cached behind this place";
}

/// Refuses what would be ignored elsewhere: a misspelt name must not widen what is dropped.
void check_names(FieldReader& fields, bool drops) {
  for (const char* name : {"model", "cache_salt", "prompt", "tokens", "messages", "tools",
                           "tool_choice", "parallel_tool_calls", "chat_template_kwargs"}) {
    fields.any(name);
  }
  if (drops) fields.any("all");
  const std::vector<std::string> unknown = fields.unread();
  if (!unknown.empty()) {
    fields.wrong(unknown.front(), "is no field of this path", "unknown_field");
  }
}

std::string nothing_to_pin(std::size_t n_tokens, std::uint32_t block_tokens) {
  if (n_tokens < block_tokens) {
    return fmt::format("these are {} tokens, and whole stripes of {} are pinned", n_tokens,
                       block_tokens);
  }
  return fmt::format(
      "no stripe of {} tokens is cached for this: send a request that begins so, "
      "then pin",
      block_tokens);
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
  json["policy"] = view.policy;
  json["named_policies"] = view.n_policies;
  json["blocks"] = Json::array();
  for (const auto& blocks : view.blocks) json["blocks"].push_back(blocks_json(blocks));
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
  json["policy"] = report->policy;
  json["kept_tokens"] = report->usage.n_kept_tokens;
  json["dropped_tokens"] = report->usage.n_tokens - report->usage.n_kept_tokens;
  json["kv_bytes"] = report->usage.bytes;
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

/// What a path of the cache is about: a text, its tokens, a conversation, or (empty) everything.
ApiResult<std::vector<TokenId>> Api::prefix_tokens(FieldReader& fields, bool may_be_all) const {
  const bool all = may_be_all && fields.boolean("all").value_or(false);
  const auto prompt = fields.text("prompt", kMaxText);
  const Json* list = fields.any("tokens");
  const bool is_chat = fields.any("messages") != nullptr;
  std::vector<TokenId> tokens;
  if ((all ? 1 : 0) + (prompt ? 1 : 0) + (list != nullptr ? 1 : 0) + (is_chat ? 1 : 0) != 1) {
    fields.wrong("prompt", may_be_all ? "or 'tokens', 'messages' or 'all': true must be given"
                                      : "or 'tokens' or 'messages' must be given");
  } else if (prompt) {
    tokens = continuation_tokens(engine_.tokenizer(), *prompt);
  } else if (list != nullptr) {
    tokens = read_token_ids(fields, "tokens", *list, engine_.config().n_vocab);
  } else if (is_chat) {
    auto written = conversation_tokens(fields, ChatEnd::open);
    if (!written) return written;
    tokens = std::move(*written);
  }
  if (tokens.empty() && !all) fields.wrong(list != nullptr ? "tokens" : "prompt", "has no tokens");
  if (fields.error()) return refuse(*fields.error());
  return tokens;
}

ApiAnswer Api::change_cache(const ApiRequest& request) const {
  auto parsed = parse_object(request.body);
  if (!parsed) return refusal(parsed.error());
  FieldReader fields(*parsed);
  const bool drops = request.path == "/cache/drop";
  check_names(fields, drops);
  const auto model = fields.text("model", kMaxNameBytes);
  const std::string salt = fields.text("cache_salt", kMaxNameBytes).value_or("");
  const auto tokens = prefix_tokens(fields, drops);
  if (!tokens) return refusal(tokens.error());
  if (const auto error = check_model(model)) return refusal(*error);
  Json json;
  std::optional<Error> error;
  const bool ran = loop_.call([&](Engine& engine) {
    if (drops) {
      json["dropped_stripes"] = engine.drop_prefix(*tokens, salt);
    } else if (request.path == "/cache/unpin") {
      json["unpinned_tokens"] = engine.unpin_prefix(*tokens, salt);
    } else if (const auto n = engine.pin_prefix(*tokens, salt)) {
      json["pinned_tokens"] = *n;
      if (*n == 0) json["note"] = nothing_to_pin(tokens->size(), engine.options().kv.block_tokens);
    } else {
      error = n.error();
    }
  });
  if (!ran) return no_engine();
  if (error) return refusal({400, error->message, "prompt", "invalid_value"});
  return json_answer(json);
}

}  // namespace larder
