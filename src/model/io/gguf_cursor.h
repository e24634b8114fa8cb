// Bounded reading of little-endian fields, with errors that say where and what.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "base/fail.h"
#include "base/printable.h"

namespace larder {

/// Walks over bytes from a file; every read is checked against their end. Not thread-safe.
class GgufCursor {
 public:
  GgufCursor(std::span<const std::byte> bytes, std::string origin)
      : bytes_(bytes), origin_(std::move(origin)) {}

  const std::string& origin() const noexcept { return origin_; }
  std::size_t position() const noexcept { return position_; }
  std::size_t remaining() const noexcept { return bytes_.size() - position_; }

  template <class T>
  bool read(T& value) noexcept {
    if (remaining() < sizeof value) return false;
    std::memcpy(&value, bytes_.data() + position_, sizeof value);
    position_ += sizeof value;
    return true;
  }

  template <class T>
  Result<T> number(std::string_view field) {
    T value{};
    if (!read(value)) return ends_in(field);
    return value;
  }

  /// Length-prefixed bytes, which stay in the file. Refuses lengths beyond `max_bytes`.
  Result<std::string_view> text(std::string_view field, std::uint64_t max_bytes) {
    std::uint64_t length = 0;
    if (!read(length)) return ends_in(field);
    if (length > max_bytes) {
      return fail(Errc::corrupt, "{}: {}: length {} exceeds the limit of {} bytes", origin_, field,
                  length, max_bytes);
    }
    if (length > remaining()) {
      return fail(Errc::corrupt, "{}: {}: length {} exceeds the {} bytes left at byte {}", origin_,
                  field, length, remaining(), position_);
    }
    const std::string_view view(reinterpret_cast<const char*>(bytes_.data()) + position_, length);
    position_ += length;
    return view;
  }

  tl::unexpected<Error> ends_in(std::string_view field) const {
    return fail(Errc::corrupt, "{}: the file ends at byte {} within {}", origin_, bytes_.size(),
                field);
  }

 private:
  std::span<const std::byte> bytes_;
  std::string origin_;
  std::size_t position_ = 0;
};

}  // namespace larder
