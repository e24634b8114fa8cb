#include "model/arch/hf_rope.h"

#include <cmath>
#include <string>

#include "base/fail.h"
#include "model/arch/json_fields.h"
#include "model/io/gguf_cursor.h"
#include "model/rope_table.h"

namespace larder {
namespace {

Result<void> read_llama3(const JsonFields& scaling, RopeConfig& rope) {
  rope.scaling = RopeScaling::llama3;
  LARDER_ASSIGN(rope.factor, scaling.f32("factor"));
  LARDER_ASSIGN(rope.low_freq_factor, scaling.f32("low_freq_factor"));
  LARDER_ASSIGN(rope.high_freq_factor, scaling.f32("high_freq_factor"));
  LARDER_ASSIGN(rope.original_context, scaling.u32("original_max_position_embeddings"));
  return {};
}

Result<void> read_yarn(const JsonFields& scaling, RopeConfig& rope) {
  rope.scaling = RopeScaling::yarn;
  LARDER_ASSIGN(rope.factor, scaling.f32("factor"));
  LARDER_ASSIGN(rope.original_context,
                scaling.u32_or("original_max_position_embeddings", rope.original_context));
  LARDER_ASSIGN(rope.beta_fast, scaling.f32_or("beta_fast", 32.0F));
  LARDER_ASSIGN(rope.beta_slow, scaling.f32_or("beta_slow", 1.0F));
  LARDER_ASSIGN(const auto truncate, scaling.bool_or("truncate", true));
  if (!truncate) {
    return fail(Errc::unsupported, "{}: field 'truncate' is false, only true is supported",
                scaling.origin());
  }
  LARDER_ASSIGN(rope.attention_factor, scaling.f32_or("attention_factor", 0.0F));
  LARDER_ASSIGN(const auto mscale, scaling.f32_or("mscale", 0.0F));
  LARDER_ASSIGN(const auto mscale_all_dim, scaling.f32_or("mscale_all_dim", 0.0F));
  rope.mscale_all_dim = mscale_all_dim;
  if (rope.attention_factor == 0 && mscale != 0 && mscale_all_dim != 0) {
    const double growth = rope.factor <= 1.0F ? 0.0 : 0.1 * std::log(rope.factor * 1.0);
    rope.attention_factor =
        static_cast<float>((growth * mscale + 1.0) / (growth * mscale_all_dim + 1.0));
  }
  return {};
}

Result<void> read_longrope(const JsonFields& fields, const JsonFields& scaling,
                           std::uint32_t n_context, RopeConfig& rope) {
  rope.scaling = RopeScaling::longrope;
  LARDER_ASSIGN(rope.long_factors, scaling.floats("long_factor"));
  LARDER_ASSIGN(rope.short_factors, scaling.floats("short_factor"));
  LARDER_ASSIGN(rope.attention_factor, scaling.f32_or("attention_factor", 0.0F));
  LARDER_ASSIGN(const auto inner, scaling.u32_or("original_max_position_embeddings", 0));
  LARDER_ASSIGN(const auto original, fields.u32_or("original_max_position_embeddings", inner));
  if (original == 0) {
    LARDER_ASSIGN(rope.factor, scaling.f32("factor"));
    return {};
  }
  // As `transformers` does: the ratio of the two contexts, whatever "factor" says.
  rope.original_context = original;
  rope.factor = static_cast<float>(n_context) / static_cast<float>(original);
  return {};
}

/// The object that holds the rope fields of global layers; the config itself when there is none.
Result<JsonFields> rope_object(const JsonFields& fields) {
  if (fields.has("rope_scaling")) return fields.object("rope_scaling");
  if (!fields.has("rope_parameters")) return fields;
  LARDER_ASSIGN(auto parameters, fields.object("rope_parameters"));
  if (parameters.has("full_attention")) return parameters.object("full_attention");
  return parameters;
}

}  // namespace

Result<void> rope_from_hf(const JsonFields& fields, ModelConfig& config) {
  RopeConfig& rope = config.rope;
  rope.style = RopeStyle::halves;
  rope.original_context = config.n_context_train;
  LARDER_ASSIGN(const auto scaling, rope_object(fields));
  LARDER_ASSIGN(const auto base, fields.f32_or("rope_theta", 10000.0F));
  LARDER_ASSIGN(rope.base, scaling.f32_or("rope_theta", base));
  LARDER_ASSIGN(const auto outer_part, fields.f32_or("partial_rotary_factor", 1.0F));
  LARDER_ASSIGN(const auto part, scaling.f32_or("partial_rotary_factor", outer_part));
  if (!(part > 0) || part > 1) {
    return fail(Errc::corrupt, "{}: field 'partial_rotary_factor' is {}, expected 0 to 1",
                fields.origin(), part);
  }
  rope.n_rot = static_cast<std::uint32_t>(static_cast<float>(config.head_dim) * part);

  LARDER_ASSIGN(const auto old_type, scaling.string_or("type", "default"));
  LARDER_ASSIGN(const auto type, scaling.string_or("rope_type", old_type));
  if (type == "default") return {};
  // Early Phi-3 files call it "su", or "yarn" with factor lists.
  if (type == "longrope" || type == "su" || scaling.has("long_factor")) {
    return read_longrope(fields, scaling, config.n_context_train, rope);
  }
  if (type == "llama3") return read_llama3(scaling, rope);
  if (type == "yarn") return read_yarn(scaling, rope);
  if (type == "linear") {
    rope.scaling = RopeScaling::linear;
    LARDER_ASSIGN(rope.factor, scaling.f32("factor"));
    return {};
  }
  return fail(Errc::unsupported, "{}: rope type '{}' is unknown, known are {}", scaling.origin(),
              printable(type), "default, linear, llama3, yarn, longrope");
}

Result<float> local_rope_base_from_hf(const JsonFields& fields, float absent) {
  LARDER_ASSIGN(const auto base, fields.f32_or("rope_local_base_freq", absent));
  if (!fields.has("rope_parameters")) return base;
  LARDER_ASSIGN(const auto parameters, fields.object("rope_parameters"));
  if (!parameters.has("sliding_attention")) return base;
  LARDER_ASSIGN(const auto local, parameters.object("sliding_attention"));
  return local.f32_or("rope_theta", base);
}

}  // namespace larder
