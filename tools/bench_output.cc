#include "bench_output.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/fail.h"
#include "flag_values.h"
#include "table.h"

namespace larder {
namespace {

using Json = nlohmann::ordered_json;

/// The format of a side, "by layer" where layers have their own.
std::string shown(const KvOptions& kv, const std::string& type) {
  return kv.layers.empty() ? type : "by layer";
}

std::string as_table(std::span<const BenchResult> results) {
  Table table;
  table.header = {"test", "threads", "K", "V", "tokens/s", "least .. most", "KV peak"};
  for (const BenchResult& r : results) {
    const auto rates = r.sorted_rates();
    const KvOptions& kv = r.measured.engine.kv;
    table.rows.push_back({r.measured.name(), fmt::format("{}", r.n_threads), shown(kv, kv.type_k),
                          shown(kv, kv.type_v), fmt::format("{:.2f}", r.median_rate()),
                          fmt::format("{:.2f} .. {:.2f}", rates.front(), rates.back()),
                          show_bytes(static_cast<double>(r.kv_peak_bytes))});
  }
  return markdown_table(table);
}

/// One flat object per case; names as llama-bench has them where they mean the same.
Json as_object(const BenchResult& r) {
  const auto rates = r.sorted_rates();
  Json json;
  json["engine"] = "Larder";
  json["model_type"] = r.model;
  json["model_filename"] = r.measured.engine.model_path;
  json["test"] = r.measured.name();
  json["n_prompt"] = r.measured.n_prompt;
  json["n_gen"] = r.measured.n_gen;
  json["n_depth"] = r.measured.depth;
  json["n_parallel"] = r.measured.n_parallel;
  json["n_ubatch"] = r.measured.engine.n_batch;
  json["n_threads"] = r.n_threads;
  json["type_k"] = r.measured.engine.kv.type_k;
  json["type_v"] = r.measured.engine.kv.type_v;
  json["kv_layers"] = r.measured.engine.kv.layers;
  json["median_ts"] = r.median_rate();
  json["min_ts"] = rates.front();
  json["max_ts"] = rates.back();
  json["kv_peak_bytes"] = r.kv_peak_bytes;
  json["kv_bytes_per_token"] = r.kv_bytes_per_token;
  json["description"] = r.description;
  return json;
}

std::string as_json(std::span<const BenchResult> results) {
  Json list = Json::array();
  for (const BenchResult& r : results) {
    Json json = as_object(r);
    json["samples_s"] = r.seconds;
    list.push_back(std::move(json));
  }
  return list.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string csv_field(const Json& value) {
  std::string text = value.is_string() ? value.get<std::string>() : value.dump();
  for (std::size_t i = 0; (i = text.find('"', i)) != std::string::npos; i += 2)
    text.insert(i, 1, '"');
  return "\"" + text + "\"";
}

std::string as_csv(std::span<const BenchResult> results) {
  std::string text;
  for (const BenchResult& r : results) {
    const Json json = as_object(r);
    std::string names, values;
    for (const auto& [name, value] : json.items()) {
      const char* comma = names.empty() ? "" : ",";
      names += comma + name;
      values += comma + csv_field(value);
    }
    if (text.empty()) text = names + "\n";
    text += values + "\n";
  }
  return text;
}

}  // namespace

Result<BenchFormat> parse_bench_format(std::string_view name) {
  if (name == "md" || name == "table") return BenchFormat::table;
  if (name == "json") return BenchFormat::json;
  if (name == "csv") return BenchFormat::csv;
  return fail(Errc::invalid_argument, "'{}' is not known; there are: md, json, csv", name);
}

std::string bench_text(std::span<const BenchResult> results, BenchFormat format) {
  switch (format) {
    case BenchFormat::table:
      return as_table(results);
    case BenchFormat::json:
      return as_json(results);
    case BenchFormat::csv:
      return as_csv(results);
  }
  return {};
}

}  // namespace larder
