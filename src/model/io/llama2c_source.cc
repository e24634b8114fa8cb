#include "model/io/llama2c_source.h"

#include <array>
#include <cstring>
#include <filesystem>
#include <unordered_map>

#include "base/fail.h"
#include "model/io/llama2c_tokenizer.h"
#include "model/io/mapped_file.h"
#include "tensor/buffer.h"

namespace larder {
namespace {

constexpr std::uint32_t kMagic = 0x616b3432;  // "ak42"
constexpr std::size_t kHeaderBytes = 256;     // of versions 1 and 2
constexpr std::size_t kLegacyHeaderBytes = 7 * sizeof(std::int32_t);

struct Header {
  std::uint32_t version = 0;  // 0: legacy
  ModelConfig config;
  bool tied = true;
  std::uint32_t group = 0;  // elements that share a scale; version 2
  std::size_t bytes = kLegacyHeaderBytes;
};

template <class T>
T read_at(std::span<const std::byte> bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

/// The seven sizes that begin every version at some offset.
Result<void> read_sizes(std::span<const std::byte> bytes, std::size_t offset,
                        const std::string& origin, Header& header) {
  std::array<std::int32_t, 7> n{};
  std::memcpy(n.data(), bytes.data() + offset, sizeof n);
  header.tied = n[5] > 0;  // legacy files say "not tied" by the sign
  if (header.version == 0 && n[5] > -(1 << 30)) n[5] = std::abs(n[5]);
  constexpr std::array<std::string_view, 7> kNames = {
      "dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len"};
  for (std::size_t i = 0; i < n.size(); ++i) {
    if (n[i] <= 0) {
      return fail(Errc::corrupt, "{}: field '{}' is {}, expected more than 0", origin, kNames[i],
                  n[i]);
    }
  }
  ModelConfig& c = header.config;
  const auto u = [&](std::size_t i) { return static_cast<std::uint32_t>(n[i]); };
  c.arch = "llama";
  c.n_embd = u(0);
  c.n_ff = u(1);
  c.n_layers = u(2);
  c.n_heads = u(3);
  c.n_kv_heads = u(4);
  c.n_vocab = u(5);
  c.n_context_train = u(6);
  if (c.n_embd % c.n_heads != 0) {
    return fail(Errc::corrupt, "{}: field 'dim' is {}, not a multiple of n_heads {}", origin,
                c.n_embd, c.n_heads);
  }
  c.head_dim = c.n_embd / c.n_heads;
  c.rope.style = RopeStyle::adjacent;
  c.rope.n_rot = c.head_dim;
  return validate(c, origin);
}

Result<Header> read_header(std::span<const std::byte> bytes, const std::string& origin) {
  Header header;
  if (bytes.size() < kLegacyHeaderBytes) {
    return fail(Errc::corrupt, "{}: {} bytes are too few for a llama2.c model", origin,
                bytes.size());
  }
  if (read_at<std::uint32_t>(bytes, 0) != kMagic) {
    if (const auto sizes = read_sizes(bytes, 0, origin, header); !sizes) {
      // The oldest version has no magic number: any file can come here.
      return fail(sizes.error().code, "{}; is it neither GGUF nor a llama2.c checkpoint?",
                  sizes.error().message);
    }
    return header;
  }
  if (bytes.size() < kHeaderBytes) {
    return fail(Errc::corrupt, "{}: {} bytes are too few for the header of {}", origin,
                bytes.size(), kHeaderBytes);
  }
  header.version = read_at<std::uint32_t>(bytes, 4);
  header.bytes = kHeaderBytes;
  if (header.version != 1 && header.version != 2) {
    return fail(Errc::unsupported, "{}: llama2.c version is {}, known are 0, 1 and 2", origin,
                header.version);
  }
  LARDER_TRY(read_sizes(bytes, 8, origin, header));
  header.tied = read_at<std::uint8_t>(bytes, 36) != 0;
  if (header.version == 2) {
    header.group = read_at<std::uint32_t>(bytes, 37);
    if (header.group == 0 || header.group > 65536) {
      return fail(Errc::corrupt, "{}: field 'group_size' is {}, expected 1 to 65536", origin,
                  header.group);
    }
  }
  return header;
}

/// One weight, or one per layer (then `name` stands between "blk.N." and ".weight").
struct Part {
  std::string_view name;
  bool per_layer = false;
  std::uint64_t n_rows = 1, n_cols = 0;
  bool norm = false;  // one-dimensional, never quantised
};

/// The weights in file order. The legacy format interleaves norms and matrices, the later ones put
/// the norms first.
std::vector<Part> parts_of(const Header& header) {
  const ModelConfig& c = header.config;
  const std::uint64_t n_kv = std::uint64_t{c.n_kv_heads} * c.head_dim;
  const Part embedding{"token_embd", false, c.n_vocab, c.n_embd, false};
  const Part attn_norm{"attn_norm", true, 1, c.n_embd, true};
  const Part ffn_norm{"ffn_norm", true, 1, c.n_embd, true};
  const Part last_norm{"output_norm", false, 1, c.n_embd, true};
  const Part q{"attn_q", true, c.n_embd, c.n_embd, false};
  const Part k{"attn_k", true, n_kv, c.n_embd, false};
  const Part v{"attn_v", true, n_kv, c.n_embd, false};
  const Part o{"attn_output", true, c.n_embd, c.n_embd, false};
  const Part gate{"ffn_gate", true, c.n_ff, c.n_embd, false};
  const Part down{"ffn_down", true, c.n_embd, c.n_ff, false};
  const Part up{"ffn_up", true, c.n_ff, c.n_embd, false};
  // Sine and cosine tables that the legacy format stores and nobody reads.
  const Part tables{"", false, 2 * std::uint64_t{c.n_context_train}, c.head_dim / 2, false};
  const Part output{"output", false, c.n_vocab, c.n_embd, false};
  std::vector<Part> parts;
  if (header.version == 0) {
    parts = {embedding, attn_norm, q, k, v, o, ffn_norm, gate, down, up, last_norm};
    if (!header.tied) parts.push_back(tables);
  } else {
    parts = {attn_norm, ffn_norm, last_norm, embedding, q, k, v, o, gate, down, up};
  }
  if (!header.tied) parts.push_back(output);
  return parts;
}

class Llama2cSource final : public ModelSource {
 public:
  static Result<std::unique_ptr<Llama2cSource>> parse(std::span<const std::byte> bytes,
                                                      const std::string& origin) {
    LARDER_ASSIGN(auto header, read_header(bytes, origin));
    auto source = std::make_unique<Llama2cSource>();
    source->path_ = origin;
    LARDER_TRY(source->read_parts(header, bytes));
    source->config_ = std::move(header.config);
    source->config_.name = std::filesystem::path(origin).stem().string();
    source->quantised_ = header.version == 2;
    return source;
  }

  Result<void> read_tokenizer(const std::string& path) {
    LARDER_ASSIGN(tokenizer_, read_llama2c_tokenizer(path));
    // These models separate texts by BOS; llama2.c stops there.
    tokenizer_.end_tokens = {tokenizer_.bos, tokenizer_.eos};
    if (tokenizer_.tokens.size() == config_.n_vocab) return {};
    return fail(Errc::corrupt, "{}: {} tokens, but {} has a vocabulary of {}", path,
                tokenizer_.tokens.size(), path_, config_.n_vocab);
  }
  void keep(MappedFile mapping) { mapping_ = std::move(mapping); }

  const std::string& path() const override { return path_; }
  const ModelConfig& config() const override { return config_; }
  const TokenizerData& tokenizer() const override { return tokenizer_; }
  const GenerationDefaults& generation_defaults() const override { return defaults_; }
  std::optional<TensorView> find(std::string_view canonical_name) const override {
    const auto it = views_.find(std::string(canonical_name));
    if (it == views_.end()) return std::nullopt;
    return it->second;
  }
  std::vector<std::string> tensor_names() const override { return names_; }
  std::string weights_description() const override { return quantised_ ? "int8 groups" : "F32"; }
  std::uint64_t weights_bytes() const override {
    std::uint64_t bytes = 0;
    for (const auto& [name, view] : views_) bytes += view.bytes.size();
    return bytes;
  }

 private:
  /// Checks the file's length against the header, then cuts the bytes into tensors.
  Result<void> read_parts(const Header& header, std::span<const std::byte> bytes) {
    std::uint64_t needed = header.bytes;
    for (const Part& part : parts_of(header)) {
      const std::uint64_t n = part.n_rows * part.n_cols;
      const bool int8 = header.version == 2 && !part.norm;
      if (int8 && n % header.group != 0) {
        return fail(Errc::corrupt, "{}: field 'group_size' is {}, but '{}' has {} elements", path_,
                    header.group, part.name, n);
      }
      const std::uint64_t each = int8 ? n + n / header.group * sizeof(float) : n * sizeof(float);
      needed += each * (part.per_layer ? header.config.n_layers : 1);
    }
    if (needed > bytes.size()) {
      return fail(Errc::corrupt, "{}: {} bytes, but its header asks for {}", path_, bytes.size(),
                  needed);
    }
    std::size_t offset = header.bytes;
    for (const Part& part : parts_of(header)) {
      const std::uint32_t times = part.per_layer ? header.config.n_layers : 1;
      for (std::uint32_t layer = 0; layer < times; ++layer) {
        offset += read_tensor(header, part, layer, bytes.subspan(offset));
      }
    }
    return {};
  }

  /// Returns the bytes it took.
  std::size_t read_tensor(const Header& header, const Part& part, std::uint32_t layer,
                          std::span<const std::byte> bytes) {
    const std::size_t n = part.n_rows * part.n_cols;
    std::size_t n_bytes = n * sizeof(float);
    TensorView view;
    view.dtype = DType::f32;
    view.n_dims = part.norm ? 1 : 2;
    view.shape = part.norm ? std::array<std::uint64_t, 4>{part.n_cols}
                           : std::array<std::uint64_t, 4>{part.n_rows, part.n_cols};
    if (header.version == 2 && !part.norm) {
      n_bytes = n + n / header.group * sizeof(float);
      view.bytes = dequantise(bytes.first(n_bytes), n, header.group);
    } else {
      view.bytes = bytes.first(n_bytes);
    }
    if (part.name.empty()) return n_bytes;
    auto name = part.per_layer ? fmt::format("blk.{}.{}.weight", layer, part.name)
                               : fmt::format("{}.weight", part.name);
    views_.emplace(name, view);
    names_.push_back(std::move(name));
    return n_bytes;
  }

  std::span<const std::byte> dequantise(std::span<const std::byte> bytes, std::size_t n,
                                        std::uint32_t group) {
    Buffer<float> values(n);
    for (std::size_t i = 0; i < n; ++i) {
      const auto scale = read_at<float>(bytes, n + i / group * sizeof(float));
      values[i] = scale * static_cast<float>(static_cast<std::int8_t>(bytes[i]));
    }
    decoded_.push_back(std::move(values));
    return std::as_bytes(decoded_.back().span());
  }

  std::string path_;
  std::optional<MappedFile> mapping_;  // empty when the bytes are the caller's
  ModelConfig config_;
  TokenizerData tokenizer_;
  GenerationDefaults defaults_;
  bool quantised_ = false;
  std::vector<Buffer<float>> decoded_;
  std::unordered_map<std::string, TensorView> views_;
  std::vector<std::string> names_;
};

}  // namespace

Result<std::unique_ptr<ModelSource>> parse_llama2c(std::span<const std::byte> bytes,
                                                   const std::string& origin) {
  return Llama2cSource::parse(bytes, origin);
}

Result<std::unique_ptr<ModelSource>> open_llama2c(const std::string& path,
                                                  const std::string& tokenizer_path) {
  LARDER_ASSIGN(auto mapping, MappedFile::open(path));
  LARDER_ASSIGN(auto source, Llama2cSource::parse(mapping.bytes(), path));
  source->keep(std::move(mapping));
  if (!tokenizer_path.empty()) LARDER_TRY(source->read_tokenizer(tokenizer_path));
  return source;
}

}  // namespace larder
