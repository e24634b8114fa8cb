// Embeddings as OpenAI's API words them.
#include <algorithm>
#include <bit>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <utility>

#include "server/generation_reply.h"

namespace larder {
namespace {

using Json = nlohmann::ordered_json;

static_assert(std::endian::native == std::endian::little);

/// The numbers' bytes, lowest first, as RFC 4648 writes them in base 64.
std::string to_base64(std::span<const float> numbers) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const auto bytes = std::as_bytes(numbers);
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t n = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t bits = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      bits = bits << 8 | (k < n ? std::to_integer<std::uint32_t>(bytes[i + k]) : 0U);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      text += k <= n ? kDigits[bits >> (18 - 6 * k) & 63U] : '=';
    }
  }
  return text;
}

}  // namespace

Json GenerationReply::embeddings() const {
  Json json;
  json["object"] = "list";
  json["data"] = Json::array();
  for (std::size_t i = 0; i < embeddings_.size(); ++i) {
    Json entry;
    entry["object"] = "embedding";
    entry["index"] = i;
    entry["embedding"] = plan_.base64 ? Json(to_base64(embeddings_[i])) : Json(embeddings_[i]);
    json["data"].push_back(std::move(entry));
  }
  json["model"] = plan_.model;
  json["usage"] = usage();
  return json;
}

}  // namespace larder
