#include <limits>
#include <unordered_set>
#include <utility>

#include "base/check.h"
#include "base/fail.h"
#include "model/io/gguf.h"
#include "model/io/output_file.h"

namespace larder {
namespace {

constexpr std::uint64_t kAlignment = 32;

constexpr std::uint64_t padded(std::uint64_t n) noexcept {
  return (n + kAlignment - 1) / kAlignment * kAlignment;
}

template <class T>
void push(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void push_text(std::string& out, std::string_view text) {
  push(out, std::uint64_t{text.size()});
  out += text;
}

template <class T>
void push_integer(std::string& out, std::int64_t value) {
  LARDER_CHECK(value >= static_cast<std::int64_t>(std::numeric_limits<T>::min()));
  if constexpr (sizeof(T) < 8) {
    LARDER_CHECK(value <= static_cast<std::int64_t>(std::numeric_limits<T>::max()));
  }
  push(out, static_cast<T>(value));
}

/// A u64 beyond 63 bits cannot come here: see put.
void push_integer(std::string& out, GgufType type, std::int64_t value) {
  switch (type) {
    case GgufType::u8:
      return push_integer<std::uint8_t>(out, value);
    case GgufType::i8:
      return push_integer<std::int8_t>(out, value);
    case GgufType::u16:
      return push_integer<std::uint16_t>(out, value);
    case GgufType::i16:
      return push_integer<std::int16_t>(out, value);
    case GgufType::u32:
      return push_integer<std::uint32_t>(out, value);
    case GgufType::i32:
      return push_integer<std::int32_t>(out, value);
    case GgufType::u64:
      return push_integer<std::uint64_t>(out, value);
    case GgufType::i64:
      return push_integer<std::int64_t>(out, value);
    default:
      LARDER_CHECK(type == GgufType::i64);  // an integer under a type that is none
  }
}

void push_float(std::string& out, GgufType type, double value) {
  LARDER_CHECK(type == GgufType::f32 || type == GgufType::f64);
  if (type == GgufType::f32) {
    push(out, static_cast<float>(value));
  } else {
    push(out, value);
  }
}

/// Appends one value of the given type; the overloads say which alternatives a type accepts.
struct Push {
  std::string& out;
  GgufType type;
  void operator()(std::uint64_t v) const {
    if (type == GgufType::u64) return push(out, v);
    LARDER_CHECK(v <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()));
    push_integer(out, type, static_cast<std::int64_t>(v));
  }
  void operator()(std::int64_t v) const { push_integer(out, type, v); }
  void operator()(double v) const { push_float(out, type, v); }
  void operator()(bool v) const {
    LARDER_CHECK(type == GgufType::boolean);
    push(out, static_cast<std::uint8_t>(v));
  }
  void operator()(const std::string& v) const {
    LARDER_CHECK(type == GgufType::string);
    push_text(out, v);
  }
  template <class T>
  void operator()(const std::vector<T>& values) const {
    push(out, std::uint64_t{values.size()});
    for (const auto& value : values) (*this)(static_cast<const T&>(value));
  }
};

}  // namespace

struct GgufWriter::Impl {
  struct Tensor {
    std::string name;
    DType dtype;
    std::vector<std::uint64_t> shape;  // outermost first
    std::uint64_t n_bytes;
  };
  OutputFile file;
  std::vector<std::pair<std::string, std::string>> entries;  // key, type and value as bytes
  std::vector<Tensor> tensors;
  std::unordered_set<std::string> names;
  std::size_t current = 0;          // tensor being written
  std::uint64_t current_bytes = 0;  // of it, written so far
  bool data_begun = false;

  explicit Impl(OutputFile out) : file(std::move(out)) {}

  void put(std::string key, std::string bytes) {
    LARDER_CHECK(!data_begun && key != "general.alignment");  // the writer's own is the default
    for (auto& [name, value] : entries) {
      if (name == key) {
        value = std::move(bytes);
        return;
      }
    }
    entries.emplace_back(std::move(key), std::move(bytes));
  }

  Result<void> pad(std::uint64_t written) {
    constexpr char kZeros[kAlignment] = {};
    return file.write(kZeros, padded(written) - written);
  }
};

GgufWriter::GgufWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GgufWriter::GgufWriter(GgufWriter&&) noexcept = default;
GgufWriter& GgufWriter::operator=(GgufWriter&&) noexcept = default;
GgufWriter::~GgufWriter() = default;

Result<GgufWriter> GgufWriter::create(const std::string& path) {
  LARDER_ASSIGN(auto file, OutputFile::create(path));
  return GgufWriter(std::make_unique<Impl>(std::move(file)));
}

void GgufWriter::put(std::string key, GgufType type, GgufValue value) {
  std::string bytes;
  push(bytes, static_cast<std::uint32_t>(type));
  LARDER_CHECK(value.index() < 5);  // the scalars come first
  std::visit(Push{bytes, type}, value);
  impl_->put(std::move(key), std::move(bytes));
}

void GgufWriter::put_array(std::string key, GgufType element_type, GgufValue values) {
  std::string bytes;
  push(bytes, static_cast<std::uint32_t>(GgufType::array));
  push(bytes, static_cast<std::uint32_t>(element_type));
  LARDER_CHECK(values.index() >= 5);
  std::visit(Push{bytes, element_type}, values);
  impl_->put(std::move(key), std::move(bytes));
}

void GgufWriter::announce(std::string name, DType dtype, std::span<const std::uint64_t> shape) {
  LARDER_CHECK(!impl_->data_begun && !shape.empty() && shape.size() <= 4);
  LARDER_CHECK(shape.back() % dtype_info(dtype).block_elems == 0);
  LARDER_CHECK(impl_->names.insert(name).second);
  std::uint64_t n_bytes = row_bytes(dtype, shape.back());
  for (const std::uint64_t dim : shape.first(shape.size() - 1)) n_bytes *= dim;
  impl_->tensors.push_back({std::move(name), dtype, {shape.begin(), shape.end()}, n_bytes});
}

Result<void> GgufWriter::begin_data() {
  LARDER_CHECK(!impl_->data_begun);
  impl_->data_begun = true;
  std::string header = "GGUF";
  push(header, std::uint32_t{3});
  push(header, std::uint64_t{impl_->tensors.size()});
  push(header, std::uint64_t{impl_->entries.size()});
  for (const auto& [key, value] : impl_->entries) {
    push_text(header, key);
    header += value;
  }
  std::uint64_t offset = 0;
  for (const Impl::Tensor& tensor : impl_->tensors) {
    push_text(header, tensor.name);
    push(header, static_cast<std::uint32_t>(tensor.shape.size()));
    for (auto dim = tensor.shape.rbegin(); dim != tensor.shape.rend(); ++dim) push(header, *dim);
    push(header, static_cast<std::uint32_t>(tensor.dtype));
    push(header, offset);
    offset += padded(tensor.n_bytes);
  }
  LARDER_TRY(impl_->file.write(header.data(), header.size()));
  return impl_->pad(header.size());
}

Result<void> GgufWriter::write_tensor(std::span<const std::byte> bytes) {
  LARDER_CHECK(impl_->current < impl_->tensors.size() && impl_->current_bytes == 0);
  LARDER_CHECK(bytes.size() == impl_->tensors[impl_->current].n_bytes);
  return append(bytes);
}

Result<void> GgufWriter::append(std::span<const std::byte> bytes) {
  Impl& w = *impl_;
  LARDER_CHECK(w.data_begun && w.current < w.tensors.size());
  const std::uint64_t n_bytes = w.tensors[w.current].n_bytes;
  LARDER_CHECK(bytes.size() <= n_bytes - w.current_bytes);
  LARDER_TRY(w.file.write(bytes.data(), bytes.size()));
  w.current_bytes += bytes.size();
  if (w.current_bytes < n_bytes) return {};
  ++w.current;
  w.current_bytes = 0;
  return w.pad(n_bytes);
}

Result<void> GgufWriter::finish() {
  Impl& w = *impl_;
  LARDER_CHECK(w.data_begun && w.current == w.tensors.size());
  return w.file.finish();
}

}  // namespace larder
