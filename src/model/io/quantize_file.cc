#include "model/io/quantize_file.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <limits>

#include "base/check.h"
#include "base/fail.h"
#include "base/thread_pool.h"
#include "model/io/gguf.h"
#include "model/io/gguf_cursor.h"
#include "tensor/buffer.h"
#include "tensor/quantize.h"

namespace larder {
namespace {

constexpr std::string_view kAlignmentKey = "general.alignment";
constexpr std::uint64_t kChunkElems = 1ULL << 22;  // rows converted between two writes
constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

bool is_float(DType dtype) noexcept { return dtype_info(dtype).block_elems == 1; }

double bits(DType dtype) noexcept {
  const DTypeInfo& info = dtype_info(dtype);
  return 8.0 * info.block_bytes / info.block_elems;
}

bool is_weight_matrix(const GgufTensor& tensor) noexcept {
  const std::string_view name = tensor.name;
  return tensor.view.n_dims >= 2 && name.ends_with(".weight") && !name.ends_with("_norm.weight") &&
         !name.starts_with("rope_") && !is_router(name);
}

DType output_default(DType type, std::uint64_t n_cols) noexcept {
  const DType rich = n_cols % dtype_info(DType::q6_k).block_elems == 0 ? DType::q6_k : DType::q8_0;
  return bits(type) < bits(rich) ? rich : type;
}

DType wanted_type(const GgufTensor& tensor, const QuantizeOptions& options, bool tied) noexcept {
  if (!is_weight_matrix(tensor)) return tensor.view.dtype;
  const bool embedding = tensor.name == "token_embd.weight";
  if (embedding && options.embedding_type) return *options.embedding_type;
  if (tensor.name == "output.weight" || (embedding && tied)) {
    if (options.output_type) return *options.output_type;
    if (!options.pure) return output_default(options.type, tensor.view.n_cols());
  }
  return options.type;
}

Result<QuantizedTensor> plan_tensor(const GgufTensor& tensor, const QuantizeOptions& options,
                                    bool tied) {
  const TensorView& view = tensor.view;
  const DType wanted = wanted_type(tensor, options, tied);
  QuantizedTensor plan{tensor.name,
                       view.dtype,
                       fitting_type(wanted, view.n_cols()),
                       view.n_rows() * view.n_cols(),
                       view.bytes.size(),
                       0,
                       std::nullopt};
  if (plan.to != wanted) plan.wanted = wanted;
  if (plan.to != plan.from && !is_float(plan.from) && !options.allow_requantize) {
    return fail(Errc::invalid_argument,
                "{}: tensor '{}' is {} already; making it {} needs --allow-requantize",
                options.input, printable(plan.name), dtype_info(plan.from).name,
                dtype_info(plan.to).name);
  }
  plan.bytes_out = view.n_rows() * row_bytes(plan.to, view.n_cols());
  return plan;
}

Result<QuantizeReport> plan_file(const GgufFile& file, const QuantizeOptions& options) {
  LARDER_ASSIGN(const auto n_parts, file.metadata().u32_or("split.count", 1));
  if (n_parts > 1) {
    return fail(Errc::unsupported, "{}: one of {} parts of a split model", options.input, n_parts);
  }
  const bool tied = file.find("output.weight") == nullptr;
  QuantizeReport report;
  for (const GgufTensor& tensor : file.tensors()) {
    LARDER_ASSIGN(auto plan, plan_tensor(tensor, options, tied));
    report.bytes_in += plan.bytes_in;
    report.bytes_out += plan.bytes_out;
    report.n_elems += plan.n_elems;
    report.tensors.push_back(std::move(plan));
  }
  return report;
}

/// First element that `to` cannot hold; kNone if there is none.
std::size_t first_bad(const float* x, std::size_t n, DType to) noexcept {
  // Half of the last step beyond the largest f16 still rounds to it.
  const float largest = to == DType::f16 ? 65520.0F : std::numeric_limits<float>::infinity();
  for (std::size_t i = 0; i < n; ++i) {
    if (!(std::abs(x[i]) < largest)) return i;
  }
  return kNone;
}

/// Converts tensors, a chunk of rows at a time over all threads.
class Converter {
 public:
  Converter(unsigned n_threads, const std::string& origin)
      : pool_(n_threads), rows_(n_threads), origin_(origin) {}

  /// Calls `advance` with the bytes of input each chunk took.
  Result<void> convert(const TensorView& view, const QuantizedTensor& plan, GgufWriter& writer,
                       const std::function<void(std::uint64_t)>& advance) {
    const std::size_t n_cols = view.n_cols(), n_rows = view.n_rows();
    const std::size_t in_bytes = row_bytes(plan.from, n_cols);
    const std::size_t chunk = std::max<std::size_t>(1, kChunkElems / n_cols);
    for (std::size_t first = 0; first < n_rows; first += chunk) {
      const std::size_t n = std::min(chunk, n_rows - first);
      const auto in = view.bytes.subspan(first * in_bytes, n * in_bytes);
      LARDER_TRY(convert_rows(in, plan, {first, n, n_cols}));
      LARDER_TRY(writer.append(plan.from == plan.to ? in : encoded_));
      advance(in.size());
    }
    return {};
  }

 private:
  struct Rows {
    std::size_t first, n, n_cols;
  };

  /// Rows of `in` to `encoded_`. Rows that keep their type are checked only: the writer takes them
  /// as they are.
  Result<void> convert_rows(std::span<const std::byte> in, const QuantizedTensor& plan, Rows rows) {
    const std::size_t in_bytes = row_bytes(plan.from, rows.n_cols);
    const std::size_t out_bytes = row_bytes(plan.to, rows.n_cols);
    const bool keeps_type = plan.from == plan.to;
    encoded_.resize(keeps_type ? 0 : rows.n * out_bytes);
    std::atomic<std::size_t> bad_row = kNone;
    pool_.for_each(rows.n, [&](std::size_t row, unsigned thread) {
      std::vector<float>& x = rows_[thread];
      x.resize(rows.n_cols);
      decode_row(plan.from, in.data() + row * in_bytes, rows.n_cols, x.data());
      if (first_bad(x.data(), rows.n_cols, plan.to) != kNone) {
        std::size_t seen = bad_row.load();
        while (row < seen && !bad_row.compare_exchange_weak(seen, row)) {
        }
        return;
      }
      if (keeps_type) return;
      encode_row(plan.to, x.data(), rows.n_cols, encoded_.data() + row * out_bytes);
    });
    if (bad_row == kNone) return {};
    return bad_value(in.data() + bad_row * in_bytes, plan, rows.first + bad_row, rows.n_cols);
  }

  Result<void> bad_value(const std::byte* in, const QuantizedTensor& plan, std::size_t row,
                         std::size_t n_cols) {
    std::vector<float>& x = rows_[0];
    x.resize(n_cols);
    decode_row(plan.from, in, n_cols, x.data());
    const std::size_t column = first_bad(x.data(), n_cols, plan.to);
    const bool finite = std::isfinite(x[column]);
    return fail(finite ? Errc::invalid_argument : Errc::corrupt,
                "{}: tensor '{}': row {} column {} = {} {}", origin_, printable(plan.name), row,
                column, x[column],
                finite ? "is beyond f16; use bf16 or a block format" : "is not a number to keep");
  }

  ThreadPool pool_;
  std::vector<std::vector<float>> rows_;  // [n_threads] one decoded row each
  std::vector<std::byte> encoded_;
  const std::string& origin_;
};

Result<void> check_paths(const QuantizeOptions& options) {
  std::error_code ignored;  // the output need not exist
  if (std::filesystem::equivalent(options.input, options.output, ignored)) {
    return fail(Errc::invalid_argument, "{}: output is the input file", options.output);
  }
  return {};
}

}  // namespace

std::uint32_t gguf_file_type(DType dtype) noexcept {
  switch (dtype) {
    case DType::f32:
      return 0;
    case DType::f16:
      return 1;
    case DType::q4_0:
      return 2;
    case DType::q4_1:
      return 3;
    case DType::q8_0:
      return 7;
    case DType::q5_0:
      return 8;
    case DType::q5_1:
      return 9;
    case DType::q4_k:
      return 14;  // "small": without a mixture
    case DType::q5_k:
      return 16;
    case DType::q6_k:
      return 18;
    case DType::bf16:
      return 32;
  }
  return 0;
}

DType fitting_type(DType wanted, std::uint64_t n_cols) noexcept {
  DType type = wanted;
  if (n_cols % dtype_info(type).block_elems != 0) {
    if (type == DType::q4_k) type = DType::q5_0;
    if (type == DType::q5_k) type = DType::q5_1;
    if (type == DType::q6_k) type = DType::q8_0;
  }
  return n_cols % dtype_info(type).block_elems == 0 ? type : DType::f16;
}

bool is_router(std::string_view tensor_name) noexcept {
  return tensor_name.ends_with(".ffn_gate_inp.weight");
}

void copy_metadata(const GgufMetadata& metadata, GgufWriter& writer) {
  constexpr std::size_t kFirstArray = 5;  // GgufValue's scalars come first
  for (const auto& [key, value] : metadata.entries()) {
    if (key == kAlignmentKey) continue;
    if (value.index() < kFirstArray) {
      writer.put(key, metadata.type(key), value);
    } else {
      writer.put_array(key, metadata.type(key), value);
    }
  }
}

Result<QuantizeReport> quantize_file(const QuantizeOptions& options,
                                     const std::function<void(const QuantizeProgress&)>& progress) {
  LARDER_CHECK(options.n_threads > 0);
  LARDER_TRY(check_paths(options));
  LARDER_ASSIGN(const auto file, GgufFile::open(options.input));
  LARDER_ASSIGN(auto report, plan_file(*file, options));
  LARDER_ASSIGN(auto writer, GgufWriter::create(options.output));
  copy_metadata(file->metadata(), writer);
  writer.put("general.file_type", GgufType::u32, std::uint64_t{gguf_file_type(options.type)});
  writer.put("general.quantization_version", GgufType::u32, std::uint64_t{2});
  const auto tensors = file->tensors();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const TensorView& view = tensors[i].view;
    writer.announce(tensors[i].name, report.tensors[i].to,
                    std::span(view.shape).first(view.n_dims));
  }
  LARDER_TRY(writer.begin_data());
  Converter converter(options.n_threads, options.input);
  std::uint64_t done = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto advance = [&](std::uint64_t n_bytes) {
      done += n_bytes;
      if (!progress) return;
      progress({&report.tensors[i], i, tensors.size(),
                static_cast<double>(done) / static_cast<double>(report.bytes_in)});
    };
    LARDER_TRY(converter.convert(tensors[i].view, report.tensors[i], writer, advance));
    file->forget(tensors[i].view);
  }
  LARDER_TRY(writer.finish());
  return report;
}

}  // namespace larder
