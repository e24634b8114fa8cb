#include <algorithm>
#include <bit>
#include <limits>
#include <unordered_map>
#include <utility>

#include "model/io/gguf.h"
#include "model/io/gguf_cursor.h"
#include "model/io/gguf_values.h"
#include "model/io/mapped_file.h"

namespace larder {

struct GgufFile::Impl {
  explicit Impl(std::string origin) : metadata(std::move(origin)) {}
  std::optional<MappedFile> mapping;
  std::span<const std::byte> bytes;
  GgufMetadata metadata;
  std::vector<GgufTensor> tensors;
  std::unordered_map<std::string_view, std::size_t> index;  // keys borrow from `tensors`
};

namespace {

constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr std::uint64_t kMaxEntries =
    65536;  // metadata keys; tensors (the largest models have 2000)
constexpr std::uint64_t kMaxNameBytes = 255;
constexpr std::uint64_t kMinEntryBytes = 8 + 1 + 4 + 1;           // key, type, value
constexpr std::uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;  // name, n_dims, dim, type, offset
constexpr std::uint32_t kDefaultAlignment = 32, kMaxAlignment = 65536;

struct Counts {
  std::uint64_t tensors = 0, entries = 0;
};

Result<Counts> read_head(GgufCursor& cursor) {
  LARDER_ASSIGN(const auto magic, cursor.number<std::uint32_t>("the magic number"));
  if (magic != kMagic) {
    return fail(Errc::corrupt, "{}: not a GGUF file: it begins with 0x{:08x}", cursor.origin(),
                magic);
  }
  LARDER_ASSIGN(const auto version, cursor.number<std::uint32_t>("the version"));
  if ((version & 0xffffU) == 0 && version != 0) {
    return fail(Errc::unsupported, "{}: big-endian GGUF file (version field 0x{:08x})",
                cursor.origin(), version);
  }
  if (version != 2 && version != 3) {  // 2 differs only in that it has no big-endian variant
    return fail(Errc::unsupported, "{}: GGUF version {}, supported are 2 and 3", cursor.origin(),
                version);
  }
  Counts n;
  LARDER_ASSIGN(n.tensors, cursor.number<std::uint64_t>("the tensor count"));
  LARDER_ASSIGN(n.entries, cursor.number<std::uint64_t>("the metadata count"));
  const auto check = [&](std::string_view what, std::uint64_t count,
                         std::uint64_t min_bytes) -> Result<void> {
    if (count > kMaxEntries) {
      return fail(Errc::corrupt, "{}: {} {} exceeds the limit of {}", cursor.origin(), what, count,
                  kMaxEntries);
    }
    if (count > cursor.remaining() / min_bytes) {
      return fail(Errc::corrupt, "{}: {} {} does not fit the {} bytes left", cursor.origin(), what,
                  count, cursor.remaining());
    }
    return {};
  };
  LARDER_TRY(check("tensor count", n.tensors, kMinTensorBytes));
  LARDER_TRY(check("metadata count", n.entries, kMinEntryBytes));
  return n;
}

Result<std::uint32_t> read_alignment(const GgufMetadata& metadata) {
  LARDER_ASSIGN(const auto alignment, metadata.u32_or("general.alignment", kDefaultAlignment));
  if (!std::has_single_bit(alignment) || alignment < 8 || alignment > kMaxAlignment) {
    return fail(Errc::corrupt, "{}: general.alignment = {} is not a power of two in 8..{}",
                metadata.origin(), alignment, kMaxAlignment);
  }
  return alignment;
}

/// A directory entry; the offset counts from the start of the data.
struct TensorInfo {
  GgufTensor tensor;
  std::uint64_t offset = 0, n_bytes = 0;
};

/// Dimensions come innermost first in the file.
Result<void> read_shape(GgufCursor& cursor, const std::string& field, TensorView& view) {
  LARDER_ASSIGN(view.n_dims, cursor.number<std::uint32_t>(field));
  if (view.n_dims < 1 || view.n_dims > view.shape.size()) {
    return fail(Errc::corrupt, "{}: {}: {} dimensions, expected 1 to {}", cursor.origin(), field,
                view.n_dims, view.shape.size());
  }
  std::uint64_t n_elems = 1;
  for (std::uint32_t i = 0; i < view.n_dims; ++i) {
    LARDER_ASSIGN(const auto dim, cursor.number<std::uint64_t>(field));
    // 2^48 elements are beyond any file; products and byte counts below stay within 64 bits.
    if (dim == 0 || dim > (1ULL << 48) / n_elems) {
      return fail(Errc::corrupt, "{}: {}: dimension {} = {} makes an impossible size",
                  cursor.origin(), field, i, dim);
    }
    n_elems *= dim;
    view.shape[view.n_dims - 1 - i] = dim;
  }
  return {};
}

Result<DType> read_dtype(GgufCursor& cursor, const std::string& field) {
  LARDER_ASSIGN(const auto number, cursor.number<std::uint32_t>(field));
  if (const auto dtype = dtype_from_gguf(number)) return *dtype;
  const std::string_view name = gguf_foreign_type_name(number);
  return fail(name.empty() ? Errc::corrupt : Errc::unsupported, "{}: {}: {} type {}{}{}",
              cursor.origin(), field, name.empty() ? "unknown" : "unsupported", number,
              name.empty() ? "" : " = ", name);
}

Result<TensorInfo> read_info(GgufCursor& cursor, std::uint64_t i, std::uint32_t alignment) {
  TensorInfo info;
  LARDER_ASSIGN(const auto name, cursor.text(fmt::format("name of tensor {}", i), kMaxNameBytes));
  if (name.empty()) {
    return fail(Errc::corrupt, "{}: tensor {} has an empty name", cursor.origin(), i);
  }
  info.tensor.name = name;
  const std::string field = fmt::format("tensor '{}'", printable(name));
  TensorView& view = info.tensor.view;
  LARDER_TRY(read_shape(cursor, field, view));
  LARDER_ASSIGN(view.dtype, read_dtype(cursor, field));
  const DTypeInfo& type = dtype_info(view.dtype);
  if (view.n_cols() % type.block_elems != 0) {
    return fail(Errc::corrupt, "{}: {}: rows of {} elements are not whole {} blocks of {}",
                cursor.origin(), field, view.n_cols(), type.name, type.block_elems);
  }
  info.n_bytes = view.n_rows() * row_bytes(view.dtype, view.n_cols());
  LARDER_ASSIGN(info.offset, cursor.number<std::uint64_t>(field));
  if (info.offset % alignment != 0) {
    return fail(Errc::corrupt, "{}: {}: offset {} is not a multiple of the alignment {}",
                cursor.origin(), field, info.offset, alignment);
  }
  return info;
}

Result<void> check_overlap(const std::vector<TensorInfo>& infos, const std::string& origin) {
  std::vector<const TensorInfo*> order(infos.size());
  std::transform(infos.begin(), infos.end(), order.begin(), [](const auto& info) { return &info; });
  std::sort(order.begin(), order.end(),
            [](const auto* a, const auto* b) { return a->offset < b->offset; });
  for (std::size_t i = 1; i < order.size(); ++i) {
    const TensorInfo &a = *order[i - 1], &b = *order[i];
    if (a.offset + a.n_bytes > b.offset) {
      return fail(Errc::corrupt, "{}: tensor '{}' at offset {} overlaps tensor '{}' at {} + {}",
                  origin, printable(b.tensor.name), b.offset, printable(a.tensor.name), a.offset,
                  a.n_bytes);
    }
  }
  return {};
}

/// Points the views into `bytes`, whose data begins at `data_begin`.
Result<void> place(std::vector<TensorInfo>& infos, std::span<const std::byte> bytes,
                   std::uint64_t data_begin, const std::string& origin) {
  const std::uint64_t data_bytes = data_begin < bytes.size() ? bytes.size() - data_begin : 0;
  for (TensorInfo& info : infos) {
    if (info.offset > data_bytes || info.n_bytes > data_bytes - info.offset) {
      return fail(Errc::corrupt,
                  "{}: tensor '{}': offset {} + {} bytes exceeds the {} bytes of tensor data (is "
                  "the file complete?)",
                  origin, printable(info.tensor.name), info.offset, info.n_bytes, data_bytes);
    }
    info.tensor.view.bytes = bytes.subspan(data_begin + info.offset, info.n_bytes);
  }
  return check_overlap(infos, origin);
}

struct Directory {
  std::vector<TensorInfo> infos;
  std::uint64_t data_begin = 0;
};

Result<Directory> read_header(std::span<const std::byte> bytes, GgufMetadata& metadata) {
  GgufCursor cursor(bytes, metadata.origin());
  LARDER_ASSIGN(const Counts n, read_head(cursor));
  LARDER_TRY(read_gguf_metadata(cursor, n.entries, metadata));
  LARDER_ASSIGN(const auto alignment, read_alignment(metadata));
  Directory directory;
  for (std::uint64_t i = 0; i < n.tensors; ++i) {
    LARDER_ASSIGN(auto info, read_info(cursor, i, alignment));
    directory.infos.push_back(std::move(info));
  }
  directory.data_begin = (cursor.position() + alignment - 1) / alignment * alignment;
  return directory;
}

}  // namespace

GgufFile::GgufFile(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GgufFile::~GgufFile() = default;

Result<std::unique_ptr<GgufFile>> GgufFile::open(const std::string& path) {
  LARDER_ASSIGN(auto mapping, MappedFile::open(path));
  LARDER_ASSIGN(auto file, parse(mapping.bytes(), path));
  file->impl_->mapping = std::move(mapping);
  return file;
}

Result<std::unique_ptr<GgufFile>> GgufFile::parse(std::span<const std::byte> bytes,
                                                  std::string origin) {
  auto impl = std::make_unique<Impl>(std::move(origin));
  impl->bytes = bytes;
  LARDER_ASSIGN(auto directory, read_header(bytes, impl->metadata));
  LARDER_TRY(place(directory.infos, bytes, directory.data_begin, impl->metadata.origin()));
  impl->tensors.reserve(directory.infos.size());  // the index keeps pointers to the names
  for (TensorInfo& info : directory.infos) {
    impl->tensors.push_back(std::move(info.tensor));
    const std::string& name = impl->tensors.back().name;
    if (!impl->index.emplace(name, impl->tensors.size() - 1).second) {
      return fail(Errc::corrupt, "{}: tensor '{}' occurs twice", impl->metadata.origin(),
                  printable(name));
    }
  }
  return std::unique_ptr<GgufFile>(new GgufFile(std::move(impl)));
}

const GgufMetadata& GgufFile::metadata() const noexcept { return impl_->metadata; }

void GgufFile::drop_metadata(std::string_view prefix) { impl_->metadata.drop(prefix); }

std::span<const GgufTensor> GgufFile::tensors() const noexcept { return impl_->tensors; }
std::uint64_t GgufFile::file_bytes() const noexcept { return impl_->bytes.size(); }

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto it = impl_->index.find(name);
  return it == impl_->index.end() ? nullptr : &impl_->tensors[it->second];
}

void GgufFile::forget(const TensorView& view) const noexcept {
  if (!impl_->mapping) return;
  const auto first = static_cast<std::size_t>(view.bytes.data() - impl_->bytes.data());
  impl_->mapping->forget(first, view.bytes.size());
}

std::string_view gguf_foreign_type_name(std::uint32_t number) noexcept {
  struct Name {
    std::uint32_t number;
    std::string_view name;
  };
  static constexpr Name kNames[] = {
      {4, "Q4_2"},        {5, "Q4_3"},        {9, "Q8_1"},        {10, "Q2_K"},    {11, "Q3_K"},
      {15, "Q8_K"},       {16, "IQ2_XXS"},    {17, "IQ2_XS"},     {18, "IQ3_XXS"}, {19, "IQ1_S"},
      {20, "IQ4_NL"},     {21, "IQ3_S"},      {22, "IQ2_S"},      {23, "IQ4_XS"},  {24, "I8"},
      {25, "I16"},        {26, "I32"},        {27, "I64"},        {28, "F64"},     {29, "IQ1_M"},
      {31, "Q4_0_4_4"},   {32, "Q4_0_4_8"},   {33, "Q4_0_8_8"},   {34, "TQ1_0"},   {35, "TQ2_0"},
      {36, "IQ4_NL_4_4"}, {37, "IQ4_NL_4_8"}, {38, "IQ4_NL_8_8"}, {39, "MXFP4"}};
  for (const Name& entry : kNames) {
    if (entry.number == number) return entry.name;
  }
  return {};
}

}  // namespace larder
