// Which storage formats the layers of a model have.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "codec/kv_codec.h"
#include "larder/options.h"
#include "larder/result.h"

namespace larder {

struct KvFormats {
  const KvCodec* k;
  const KvCodec* v;
  bool operator==(const KvFormats&) const = default;
};

/// "f32, f16, ...": names of all formats.
std::string kv_format_names();

/// Formats of the layers [n_layers]: what `options.layers` says of them, else `type_k` and
/// `type_v`. `layers` is a list of RANGE:FORMAT or RANGE:K/V with a comma between; a range is `3`,
/// `2-5` or `2-` (to the last layer). Errors: invalid_argument (an unknown format, no range, a
/// layer beyond the model's or named twice), with the field and the value.
Result<std::vector<KvFormats>> layer_formats(const KvOptions& options, std::uint32_t n_layers);

/// The same without a model, for its errors: layers may be anything.
Result<void> check_formats(const KvOptions& options);

/// "K rot4, V int4", or by layers where they differ: "0-1: K bf16, V bf16; 2-29: K rot4, V int4".
std::string formats_text(const std::vector<KvFormats>& formats);

}  // namespace larder
