#include "codec/kv_codec.h"

#include <array>

#include "base/check.h"
#include "codec/bf16.h"
#include "codec/f16.h"
#include "codec/f32.h"

namespace larder {

std::span<const KvCodec* const> kv_codecs() noexcept {
  static const std::array kCodecs{&f32_codec(), &f16_codec(), &bf16_codec()};
  return kCodecs;
}

const KvCodec& kv_codec(KvFormat format) noexcept {
  for (const KvCodec* codec : kv_codecs()) {
    if (codec->format == format) return *codec;
  }
  check_failed("format is registered", __FILE__, __LINE__);
}

std::optional<KvFormat> parse_kv_format(std::string_view name) noexcept {
  for (const KvCodec* codec : kv_codecs()) {
    if (codec->name == name) return codec->format;
  }
  return std::nullopt;
}

}  // namespace larder
