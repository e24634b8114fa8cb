#include "model/io/regroup.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <span>

#include "tensor/quantize.h"

namespace larder {
namespace {

TensorView rows_of(const TensorView& view, std::uint64_t first, std::uint64_t n) {
  TensorView part = view;
  const std::size_t bytes = row_bytes(view.dtype, view.n_cols());
  part.n_dims = 2;
  part.shape = {n, view.n_cols(), 0, 0};
  part.bytes = view.bytes.subspan(first * bytes, n * bytes);
  return part;
}

OutputTensor as_it_is(const std::string& name, const TensorView& view) {
  return {name, name, {view}, false, view.n_dims, view.shape};
}

void add_latent_halves(const std::string& name, const TensorView& view, const ModelConfig& config,
                       std::vector<OutputTensor>& out) {
  const LatentConfig& c = config.latent;
  const std::string prefix = name.substr(0, name.size() - std::string_view("kv_b.weight").size());
  OutputTensor k{prefix + "k_b.weight", name, {}, true, 3, {config.n_heads, c.kv_rank, c.nope_dim}};
  OutputTensor v{prefix + "v_b.weight", name, {}, false, 3, {config.n_heads, c.v_dim, c.kv_rank}};
  const std::uint64_t per_head = c.nope_dim + c.v_dim;
  for (std::uint64_t head = 0; head < config.n_heads; ++head) {
    k.pieces.push_back(rows_of(view, head * per_head, c.nope_dim));
    v.pieces.push_back(rows_of(view, head * per_head + c.nope_dim, c.v_dim));
  }
  out.push_back(std::move(k));
  out.push_back(std::move(v));
}

/// "blk.3.ffn_gate.5.weight": the stack's name and the expert's number.
struct ExpertName {
  std::string stem;  // "blk.3.ffn_gate"
  std::uint32_t index;
};
std::optional<ExpertName> expert_name(std::string_view name) {
  constexpr std::string_view kKind = ".weight";
  if (!name.ends_with(kKind) || name.find(".ffn_") == std::string_view::npos) return std::nullopt;
  name.remove_suffix(kKind.size());
  const std::size_t dot = name.rfind('.');
  ExpertName found{std::string(name.substr(0, dot)), 0};
  const char* end = name.data() + name.size();
  const auto parsed = std::from_chars(name.data() + dot + 1, end, found.index);
  if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  return found;
}

OutputTensor stack(const std::string& stem, const ModelSource& source) {
  const std::uint32_t n = source.config().experts.n_experts;
  OutputTensor all{stem + "_exps.weight", stem + ".0.weight", {}, false, 3, {n, 0, 0}};
  for (std::uint32_t i = 0; i < n; ++i) {
    const auto view = source.find(fmt::format("{}.{}.weight", stem, i));
    all.pieces.push_back(*view);
    all.shape[1] = view->n_rows();
    all.shape[2] = view->n_cols();
  }
  return all;
}

}  // namespace

std::uint64_t OutputTensor::n_elems() const noexcept {
  std::uint64_t n = 1;
  for (std::uint32_t i = 0; i < n_dims; ++i) n *= shape[i];
  return n;
}

std::uint64_t OutputTensor::bytes_in() const noexcept {
  std::uint64_t n = 0;
  for (const TensorView& piece : pieces) n += piece.bytes.size();
  return n;
}

std::vector<OutputTensor> regroup_tensors(const ModelSource& source) {
  const ModelConfig& config = source.config();
  std::vector<OutputTensor> out;
  for (const std::string& name : source.tensor_names()) {
    const auto view = source.find(name);
    const auto expert = config.experts.n_experts == 0 ? std::nullopt : expert_name(name);
    if (expert) {
      const std::string stacked = expert->stem + "_exps.weight";
      const bool known = std::any_of(out.begin(), out.end(),
                                     [&](const OutputTensor& t) { return t.name == stacked; });
      if (!known) out.push_back(stack(expert->stem, source));
    } else if (config.has_latent() && name.ends_with(".attn_kv_b.weight")) {
      add_latent_halves(name, *view, config, out);
    } else {
      out.push_back(as_it_is(name, *view));
    }
  }
  return out;
}

TensorView transpose_piece(const TensorView& piece, std::vector<float>& memory) {
  const std::size_t n_rows = piece.n_rows(), n_cols = piece.n_cols();
  memory.resize(n_rows * n_cols);
  std::vector<float> row(n_cols);
  for (std::size_t r = 0; r < n_rows; ++r) {
    decode_row(piece.dtype, piece.bytes.data() + r * row_bytes(piece.dtype, n_cols), n_cols,
               row.data());
    for (std::size_t c = 0; c < n_cols; ++c) memory[c * n_rows + r] = row[c];
  }
  return {DType::f32, 2, {n_cols, n_rows, 0, 0}, std::as_bytes(std::span(memory))};
}

}  // namespace larder
