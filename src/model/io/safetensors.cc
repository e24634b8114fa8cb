#include "model/io/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <functional>
#include <unordered_set>

#include "base/fail.h"
#include "model/io/gguf_cursor.h"
#include "model/io/mapped_file.h"
#include "model/io/safetensors_header.h"
#include "tensor/buffer.h"

namespace larder {

struct SafetensorsFile::Impl {
  std::string origin;
  std::optional<MappedFile> mapping;  // empty when the bytes are the caller's
  std::vector<SafetensorsTensor> tensors;
  std::vector<Buffer<std::byte>> copies;  // of tensors that the file does not align
};

namespace {

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit

struct ElementType {
  std::string_view name;
  std::uint64_t bytes;
  std::optional<DType> dtype;
};

constexpr auto kTypes = std::to_array<ElementType>({
    {"F32", 4, DType::f32},
    {"F16", 2, DType::f16},
    {"BF16", 2, DType::bf16},
    {"F64", 8, {}},
    {"I64", 8, {}},
    {"I32", 4, {}},
    {"I16", 2, {}},
    {"I8", 1, {}},
    {"U64", 8, {}},
    {"U32", 4, {}},
    {"U16", 2, {}},
    {"U8", 1, {}},
    {"BOOL", 1, {}},
    {"F8_E4M3", 1, {}},
    {"F8_E5M2", 1, {}},
});

/// Product of the shape and the element's size; empty when it exceeds 64 bits.
std::optional<std::uint64_t> n_bytes(const SafetensorsEntry& entry, std::uint64_t element) {
  std::uint64_t bytes = element;
  for (const std::uint64_t n : entry.shape) {
    if (__builtin_mul_overflow(bytes, n, &bytes)) return std::nullopt;
  }
  return bytes;
}

Result<void> check_offsets(const SafetensorsEntry& entry, std::uint64_t data_bytes,
                           const std::string& origin) {
  const auto [begin, end] = entry.offsets;
  if (begin <= end && end <= data_bytes) return {};
  return fail(Errc::corrupt, "{}: tensor '{}' has data_offsets [{}, {}]{}: the data has {} bytes",
              origin, printable(entry.name), begin, end,
              begin > end ? "" : " beyond the end of the file", data_bytes);
}

/// REQUIRES: its offsets are good.
Result<const ElementType*> check_entry(const SafetensorsEntry& entry, const std::string& origin) {
  const auto it = std::find_if(kTypes.begin(), kTypes.end(),
                               [&](const ElementType& t) { return t.name == entry.dtype; });
  if (it == kTypes.end()) {
    return fail(Errc::corrupt, "{}: tensor '{}' has unknown dtype '{}'", origin,
                printable(entry.name), printable(entry.dtype));
  }
  const auto [begin, end] = entry.offsets;
  const auto bytes = n_bytes(entry, it->bytes);
  if (!bytes || *bytes != end - begin) {
    return fail(Errc::corrupt, "{}: tensor '{}' has {} bytes, its shape [{}] needs {}", origin,
                printable(entry.name), end - begin, fmt::join(entry.shape, ", "),
                bytes ? std::to_string(*bytes) : "more than 64 bits can count");
  }
  return &*it;
}

TensorView view_of(const SafetensorsEntry& entry, DType dtype, std::span<const std::byte> bytes) {
  TensorView view;
  view.dtype = dtype;
  view.bytes = bytes;
  view.n_dims = static_cast<std::uint32_t>(std::max<std::size_t>(1, entry.shape.size()));
  view.shape[0] = 1;  // a scalar
  std::copy(entry.shape.begin(), entry.shape.end(), view.shape.begin());
  return view;
}

Result<std::vector<SafetensorsEntry>> read_entries(std::span<const std::byte> bytes,
                                                   std::uint64_t header_bytes,
                                                   const std::string& origin) {
  const auto* text = reinterpret_cast<const char*>(bytes.data()) + 8;
  LARDER_ASSIGN(auto entries, parse_safetensors_header({text, header_bytes}, origin));
  std::unordered_set<std::string_view> names;
  for (const auto& entry : entries) {
    if (!names.insert(entry.name).second) {
      return fail(Errc::corrupt, "{}: tensor '{}' is there twice", origin, printable(entry.name));
    }
  }
  names.clear();
  // Before overlaps: a tensor that reaches beyond the end overlaps all that follow it.
  const std::uint64_t data_bytes = bytes.size() - 8 - header_bytes;
  for (const auto& entry : entries) LARDER_TRY(check_offsets(entry, data_bytes, origin));
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return a.offsets != b.offsets ? a.offsets < b.offsets : a.name < b.name;
  });
  std::uint64_t last_end = 0;
  const std::string* last = nullptr;
  for (const auto& entry : entries) {
    if (entry.offsets[0] < last_end) {
      return fail(Errc::corrupt, "{}: tensors '{}' and '{}' overlap", origin, printable(*last),
                  printable(entry.name));
    }
    last_end = std::max(last_end, entry.offsets[1]);
    last = &entry.name;
  }
  return entries;
}

Result<std::uint64_t> header_size(std::span<const std::byte> bytes, const std::string& origin) {
  std::uint64_t n = 0;
  if (bytes.size() < sizeof n) {
    return fail(Errc::corrupt, "{}: {} bytes are too few for a safetensors file", origin,
                bytes.size());
  }
  std::memcpy(&n, bytes.data(), sizeof n);  // little-endian, as are the machines we build for
  static_assert(std::endian::native == std::endian::little);
  if (n > kMaxHeaderBytes || n > bytes.size() - sizeof n) {
    return fail(Errc::corrupt, "{}: the header's length is {}, the file has {} bytes (limit {})",
                origin, n, bytes.size(), kMaxHeaderBytes);
  }
  return n;
}

}  // namespace

SafetensorsFile::SafetensorsFile(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SafetensorsFile::~SafetensorsFile() = default;

const std::string& SafetensorsFile::origin() const noexcept { return impl_->origin; }

void SafetensorsFile::forget(const TensorView& view) const noexcept {
  if (!impl_->mapping) return;
  const std::span<const std::byte> all = impl_->mapping->bytes();
  const std::less<const std::byte*> before;  // pointers into different objects
  if (before(view.bytes.data(), all.data()) ||
      !before(view.bytes.data(), all.data() + all.size())) {
    return;
  }
  impl_->mapping->forget(static_cast<std::size_t>(view.bytes.data() - all.data()),
                         view.bytes.size());
}

std::span<const SafetensorsTensor> SafetensorsFile::tensors() const noexcept {
  return impl_->tensors;
}

Result<std::unique_ptr<SafetensorsFile>> SafetensorsFile::parse(std::span<const std::byte> bytes,
                                                                std::string origin) {
  LARDER_ASSIGN(const auto header_bytes, header_size(bytes, origin));
  LARDER_ASSIGN(auto entries, read_entries(bytes, header_bytes, origin));
  const auto data = bytes.subspan(8 + header_bytes);
  auto impl = std::make_unique<Impl>();
  for (auto& entry : entries) {
    LARDER_ASSIGN(const ElementType* type, check_entry(entry, origin));
    SafetensorsTensor tensor{std::move(entry.name), std::move(entry.dtype), std::nullopt};
    if (type->dtype && entry.shape.size() <= TensorView{}.shape.size()) {
      auto part = data.subspan(entry.offsets[0], entry.offsets[1] - entry.offsets[0]);
      if (reinterpret_cast<std::uintptr_t>(part.data()) % type->bytes != 0) {
        Buffer<std::byte> copy(part.size());
        std::copy(part.begin(), part.end(), copy.data());
        impl->copies.push_back(std::move(copy));
        part = impl->copies.back().span();
      }
      tensor.view = view_of(entry, *type->dtype, part);
    }
    impl->tensors.push_back(std::move(tensor));
  }
  impl->origin = std::move(origin);
  return std::unique_ptr<SafetensorsFile>(new SafetensorsFile(std::move(impl)));
}

Result<std::unique_ptr<SafetensorsFile>> SafetensorsFile::open(const std::string& path) {
  LARDER_ASSIGN(auto mapping, MappedFile::open(path));
  LARDER_ASSIGN(auto file, parse(mapping.bytes(), path));
  file->impl_->mapping = std::move(mapping);
  return file;
}

}  // namespace larder
