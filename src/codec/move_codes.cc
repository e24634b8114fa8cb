#include "codec/move_codes.h"

#include <cstddef>
#include <cstring>

#include "base/check.h"

namespace larder {
namespace {

constexpr std::size_t kLanes = 16;  // tokens of a K plane, channels of a V plane
constexpr std::size_t kVector = 64;

/// Where a code stands: its plane, and its place there.
struct Place {
  std::size_t plane, j;
};
Place place_k(std::size_t row, std::size_t channel, BlockShape shape) {
  return {row / kLanes * (shape.head_dim / 2) + channel / 2, 2 * (row % kLanes) + channel % 2};
}
Place place_v(std::size_t row, std::size_t channel, BlockShape shape) {
  return {channel / kLanes * (shape.block_tokens / 2) + row / 2, 2 * (channel % kLanes) + row % 2};
}

/// The codes of a part of `bits` each.
class Codes {
 public:
  Codes(std::uint32_t bits, std::byte* data) : bits_(bits), data_(data) {}

  unsigned get(Place at) const {
    const Slot slot = slot_of(at);
    if (bits_ == 8) return static_cast<unsigned>(slot.group[byte_of(slot)]);
    if (slot.i == 15) {
      unsigned code = 0;
      for (std::size_t k = 0; k < bits_; ++k) code |= (word(slot, k) >> 15) << k;
      return code;
    }
    return word(slot, slot.i / per_word()) >> shift(slot) & mask();
  }
  void put(Place at, unsigned code) const {
    const Slot slot = slot_of(at);
    if (bits_ == 8) {
      slot.group[byte_of(slot)] = static_cast<std::byte>(code);
    } else if (slot.i == 15) {
      for (std::size_t k = 0; k < bits_; ++k) set(slot, k, 1U << 15, (code >> k & 1U) << 15);
    } else {
      set(slot, slot.i / per_word(), mask() << shift(slot), code << shift(slot));
    }
  }

 private:
  struct Slot {
    std::byte* group;
    std::size_t i, j;  // plane of the group, code of the plane
  };
  Slot slot_of(Place at) const {
    const std::size_t n = simd::group_planes(bits_);
    return {data_ + at.plane / n * simd::n_words(bits_) * kVector, at.plane % n, at.j};
  }
  std::size_t per_word() const { return 16 / bits_; }
  unsigned mask() const { return (1U << bits_) - 1U; }
  unsigned shift(const Slot& slot) const {
    return static_cast<unsigned>(bits_ * (slot.i % per_word()));
  }
  static std::size_t byte_of(const Slot& slot) {
    return 16 * (slot.j / 8) + 8 * slot.i + slot.j % 8;
  }
  static unsigned word(const Slot& slot, std::size_t k) {
    std::uint16_t w;
    std::memcpy(&w, slot.group + k * kVector + 2 * slot.j, sizeof(w));
    return w;
  }
  static void set(const Slot& slot, std::size_t k, unsigned mask, unsigned bits) {
    const auto w = static_cast<std::uint16_t>((word(slot, k) & ~mask) | bits);
    std::memcpy(slot.group + k * kVector + 2 * slot.j, &w, sizeof(w));
  }

  std::uint32_t bits_;
  std::byte* data_;
};

template <Place (*kPlace)(std::size_t, std::size_t, BlockShape)>
void move_codes(const simd::CodeBook& book, const std::byte* from, std::uint32_t from_row,
                BlockShape shape, std::byte* to, std::uint32_t to_row) {
  LARDER_DCHECK(book.fit != simd::CodeFit::range);
  const Codes source(book.bits, const_cast<std::byte*>(from)), target(book.bits, to);
  for (std::uint32_t c = 0; c < shape.head_dim; ++c) {
    target.put(kPlace(to_row, c, shape), source.get(kPlace(from_row, c, shape)));
  }
  const std::size_t scales = simd::code_bytes(book, shape);
  std::memmove(to + scales + 2 * std::size_t{to_row}, from + scales + 2 * std::size_t{from_row}, 2);
}

}  // namespace

void move_codes_k(const simd::CodeBook& book, const std::byte* from, std::uint32_t from_row,
                  BlockShape shape, std::byte* to, std::uint32_t to_row) {
  move_codes<place_k>(book, from, from_row, shape, to, to_row);
}

void move_codes_v(const simd::CodeBook& book, const std::byte* from, std::uint32_t from_row,
                  BlockShape shape, std::byte* to, std::uint32_t to_row) {
  move_codes<place_v>(book, from, from_row, shape, to, to_row);
}

}  // namespace larder
