#include "codec/kv_codec.h"

#include <array>

#include "base/check.h"
#include "codec/bf16.h"
#include "codec/f16.h"
#include "codec/f32.h"
#include "codec/fp8.h"
#include "codec/ggml_rows.h"
#include "codec/int4.h"
#include "codec/int8.h"
#include "codec/kivi.h"
#include "codec/kvq.h"
#include "codec/rotated.h"

namespace larder {

std::span<const KvCodec* const> kv_codecs() noexcept {
  static const std::array kCodecs{
      &f32_codec(),   &f16_codec(),   &bf16_codec(), &q8_0_codec(),  &int8_codec(), &fp8_codec(),
      &rot8_codec(),  &kivi8_codec(), &rot5_codec(), &q4_0_codec(),  &rot4_codec(), &int4_codec(),
      &kivi4_codec(), &rot3_codec(),  &rot2_codec(), &kivi2_codec(), &kvq4_codec(), &kvq4o_codec(),
      &kvq3_codec(),  &kvq3o_codec(), &kvq2_codec(), &kvq2o_codec()};
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
