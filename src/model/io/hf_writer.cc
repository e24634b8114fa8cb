#include "model/io/hf_writer.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "base/fail.h"
#include "base/thread_pool.h"
#include "model/arch/arch.h"
#include "model/arch/tensor_names.h"
#include "model/io/convert_tensor.h"
#include "model/io/hf_json.h"
#include "model/io/output_file.h"

namespace larder {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxConfigBytes = 1U << 20;

struct Planned {
  std::string hf_name;
  TensorView in;
  TensorTarget target;
};

std::string safetensors_type(DType dtype) {
  return dtype == DType::f32 ? "F32" : dtype == DType::f16 ? "F16" : "BF16";
}

Result<void> check_options(const ConvertOptions& options) {
  if (options.type && dtype_info(*options.type).block_elems > 1) {
    return fail(Errc::invalid_argument, "type {} is GGUF's; a Hugging Face directory holds {}",
                dtype_info(*options.type).name, "f32, f16 or bf16");
  }
  std::error_code error;
  if (!fs::exists(options.output, error)) return {};
  if (!fs::is_directory(options.output, error) || !fs::is_empty(options.output, error)) {
    return fail(Errc::invalid_argument, "{}: exists and is not an empty directory", options.output);
  }
  return {};
}

/// The name in a Hugging Face directory; empty when there is none.
std::string hf_name_of(const std::string& canonical, const Arch& arch) {
  static constexpr std::pair<std::string_view, std::string_view> kLatent[] = {
      {"attn_kv_a_mqa.weight", "self_attn.kv_a_proj_with_mqa.weight"},
      {"attn_kv_a_norm.weight", "self_attn.kv_a_layernorm.weight"},
      {"attn_kv_b.weight", "self_attn.kv_b_proj.weight"}};
  for (const auto& [own, hf] : kLatent) {
    if (!canonical.ends_with(own)) continue;
    // "blk.7." becomes "model.layers.7."
    const std::string layer = canonical.substr(3, canonical.size() - own.size() - 3);
    return std::string("model.layers").append(layer).append(hf);
  }
  return hf_tensor_name(canonical, arch.canonical_name);
}

Result<std::vector<Planned>> plan_tensors(const ModelSource& source,
                                          const ConvertOptions& options) {
  const Arch& arch = *find_arch(source.config().arch);
  std::vector<Planned> plans;
  for (const std::string& name : source.tensor_names()) {
    std::string hf_name = hf_name_of(name, arch);
    if (hf_name.empty()) {
      return fail(Errc::unsupported, "{}: tensor '{}' has no name in a Hugging Face directory",
                  options.input, name);
    }
    const TensorView view = *source.find(name);
    const bool keeps = view.n_dims < 2 || source.keeps_type(name);
    const DType dtype = keeps ? view.dtype : options.type.value_or(view.dtype);
    plans.push_back({std::move(hf_name), view, {name, dtype, TensorChange::none, 1}});
  }
  return plans;
}

/// The directory of the file: 8 bytes of length, then JSON padded with blanks to whole 8 bytes.
std::string header_of(const std::vector<Planned>& plans) {
  nlohmann::ordered_json json;
  json["__metadata__"] = {{"format", "pt"}};
  std::uint64_t offset = 0;
  for (const Planned& plan : plans) {
    const std::uint64_t bytes = plan.in.n_rows() * row_bytes(plan.target.dtype, plan.in.n_cols());
    std::vector<std::uint64_t> shape(plan.in.shape.begin(), plan.in.shape.begin() + plan.in.n_dims);
    json[plan.hf_name] = {{"dtype", safetensors_type(plan.target.dtype)},
                          {"shape", std::move(shape)},
                          {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = json.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

Result<void> write_weights(const std::vector<Planned>& plans, const ConvertOptions& options,
                           const ConvertProgress& progress) {
  LARDER_ASSIGN(auto file,
                OutputFile::create((fs::path(options.output) / "model.safetensors").string()));
  const std::string header = header_of(plans);
  const std::uint64_t n_header = header.size();
  LARDER_TRY(file.write(&n_header, sizeof n_header));
  LARDER_TRY(file.write(header.data(), header.size()));
  ThreadPool pool(std::max(1U, options.n_threads));
  TensorConverter converter(pool, options.input);
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const Planned& plan = plans[i];
    if (progress) {
      progress(plan.hf_name, static_cast<float>(i) / static_cast<float>(plans.size()));
    }
    LARDER_TRY(converter.convert(plan.in, plan.target, [&](std::span<const std::byte> bytes) {
      return file.write(bytes.data(), bytes.size());
    }));
  }
  return file.finish();
}

/// Weights in any form, and what is written anew.
bool is_copied(const fs::path& path) {
  static constexpr std::string_view kWeights[] = {".safetensors", ".bin", ".pt",   ".pth",
                                                  ".gguf",        ".h5",  ".onnx", ".msgpack"};
  const std::string name = path.filename().string();
  const std::string extension = path.extension().string();
  if (name == "config.json" || name.ends_with(".index.json")) return false;
  return std::find(std::begin(kWeights), std::end(kWeights), extension) == std::end(kWeights);
}

Result<void> copy_other_files(const ConvertOptions& options) {
  std::error_code error;
  for (fs::directory_iterator it(options.input, error), end; !error && it != end;
       it.increment(error)) {
    if (!it->is_regular_file() || !is_copied(it->path())) continue;
    const fs::path to = fs::path(options.output) / it->path().filename();
    if (!fs::copy_file(it->path(), to, error) || error) {
      return fail(Errc::io, "{}: cannot be written: {}", to.string(), error.message());
    }
  }
  if (error) return fail(Errc::io, "{}: cannot be read: {}", options.input, error.message());
  return {};
}

/// Divisors of frequencies are told as long rope with the same factors for both contexts.
nlohmann::json rope_scaling_of(const ModelConfig& c) {
  if (c.rope.frequency_divisors.empty()) return nullptr;
  return {{"rope_type", "longrope"},
          {"type", "longrope"},
          {"short_factor", c.rope.frequency_divisors},
          {"long_factor", c.rope.frequency_divisors},
          {"attention_factor", 1.0},
          {"factor", 1.0},
          {"original_max_position_embeddings", c.n_context_train}};
}

/// config.json of DeepSeek-V2 with dense feed-forward parts, out of that of a Llama.
void make_deepseek(const ModelConfig& c, nlohmann::json& config) {
  for (const char* key : {"rope_parameters", "layer_types", "sliding_window", "use_sliding_window",
                          "max_window_layers", "partial_rotary_factor", "auto_map"}) {
    config.erase(key);
  }
  config["architectures"] = {"DeepseekV2ForCausalLM"};
  config["model_type"] = "deepseek_v2";
  config["num_key_value_heads"] = c.n_heads;  // by this form's custom
  config["kv_lora_rank"] = c.latent.kv_rank;
  config["q_lora_rank"] = nullptr;
  config["qk_nope_head_dim"] = c.latent.nope_dim;
  config["qk_rope_head_dim"] = c.latent.rope_dim;
  config["head_dim"] = c.latent.rope_dim;
  config["v_head_dim"] = c.latent.v_dim;
  config["first_k_dense_replace"] = c.n_layers;
  config["rms_norm_eps"] = c.norm_eps;
  config["rope_theta"] = c.rope.base;
  config["rope_scaling"] = rope_scaling_of(c);
  config["attention_bias"] = false;
  config["mlp_bias"] = false;
}

Result<void> write_config(const ModelSource& source, const ConvertOptions& options) {
  nlohmann::json config;
  LARDER_TRY(read_json_object((fs::path(options.input) / "config.json").string(), kMaxConfigBytes,
                              config));
  if (source.config().has_latent()) {
    make_deepseek(source.config(), config);
  } else {
    config["num_key_value_heads"] = source.config().n_kv_heads;
  }
  if (options.type) {
    const std::string type = *options.type == DType::f32   ? "float32"
                             : *options.type == DType::f16 ? "float16"
                                                           : "bfloat16";
    for (const char* key : {"torch_dtype", "dtype"}) {
      if (config.contains(key)) config[key] = type;
    }
  }
  const std::string text = config.dump(2) + "\n";
  return write_file((fs::path(options.output) / "config.json").string(), text);
}

/// The type that most bytes of matrices have.
DType main_type(const std::vector<Planned>& plans) {
  std::map<DType, std::uint64_t> counts = {{DType::f32, 0}};
  for (const Planned& plan : plans) {
    if (plan.in.n_dims >= 2) counts[plan.target.dtype] += plan.in.n_rows() * plan.in.n_cols();
  }
  const auto less = [](const auto& a, const auto& b) { return a.second < b.second; };
  return std::max_element(counts.begin(), counts.end(), less)->first;
}

}  // namespace

Result<ConvertReport> write_hf_directory(const ModelSource& source, const ConvertOptions& options,
                                         const ConvertProgress& progress) {
  LARDER_TRY(check_options(options));
  LARDER_ASSIGN(const auto plans, plan_tensors(source, options));
  std::error_code error;
  fs::create_directories(options.output, error);
  if (error) return fail(Errc::io, "{}: cannot be made: {}", options.output, error.message());
  LARDER_TRY(write_weights(plans, options, progress));
  LARDER_TRY(copy_other_files(options));
  LARDER_TRY(write_config(source, options));
  ConvertReport report;
  report.arch = source.config().arch;
  report.type = main_type(plans);
  for (const Planned& plan : plans) {
    ++report.n_tensors;
    report.n_weights += plan.in.n_rows() * plan.in.n_cols();
    report.weight_bytes += plan.in.n_rows() * row_bytes(plan.target.dtype, plan.in.n_cols());
  }
  if (progress) progress("", 1.0F);
  return report;
}

}  // namespace larder
