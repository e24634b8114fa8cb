#include "codec/key_codes.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "base/check.h"
#include "tensor/half.h"

namespace larder {
namespace {

constexpr std::size_t kPlane = 32;  // elements: 16 tokens of two channels

using Element = std::uint16_t;  // a value as bf16, or a place
using Elements = std::array<Element, kMaxKeyElements>;

Element load(const std::byte* from) {
  Element x;
  std::memcpy(&x, from, sizeof(x));
  return x;
}

/// [n] What the codes of y lose of the keys; bits of floats that are not negative have their order.
void find_losses(const KeyCoding& coding, BlockShape shape, const Elements& y,
                 const Elements& coded, std::span<std::uint32_t> losses) {
  const std::size_t n_pairs = shape.head_dim / 2;
  for (std::size_t i = 0; i < losses.size(); ++i) {
    const std::size_t channel = i / kPlane % n_pairs * 2 + i % 2;
    const float loss = std::abs(bf16_to_f32(y[i]) - bf16_to_f32(coded[i]));
    losses[i] = std::bit_cast<std::uint32_t>(loss * coding.turn.spread[channel]);
  }
}

void keep_apart(std::span<const std::uint32_t> losses, std::size_t n, const Elements& y,
                std::byte* places) {
  std::array<std::uint32_t, kMaxKeyElements> order;
  std::copy(losses.begin(), losses.end(), order.begin());
  const auto last = order.begin() + static_cast<std::ptrdiff_t>(n) - 1;
  std::nth_element(order.begin(), last, order.begin() + std::ssize(losses), std::greater<>());
  // Of those that lose as much as the last one, the first.
  auto n_alike = static_cast<std::size_t>(std::count(order.begin(), last + 1, *last));
  std::byte* values = places + n * sizeof(Element);
  for (std::size_t i = 0; i < losses.size(); ++i) {
    if (losses[i] < *last || (losses[i] == *last && n_alike == 0)) continue;
    if (losses[i] == *last) --n_alike;
    const auto place = static_cast<Element>(i);
    std::memcpy(places, &place, sizeof(place));
    std::memcpy(values, &y[i], sizeof(Element));
    places += sizeof(Element);
    values += sizeof(Element);
  }
}

}  // namespace

simd::CodeBook make_key_book(std::uint32_t bits, std::span<const float> values) {
  LARDER_CHECK(bits < 8 && values.size() == std::size_t{1} << bits);
  simd::CodeBook book{};
  book.bits = bits;
  book.fit = simd::CodeFit::norm;
  for (std::size_t i = 0; i < 128; ++i) book.values[i] = f32_to_bf16(values[i % values.size()]);
  for (std::size_t i = 0; i < 127; ++i) {
    const float low = bf16_to_f32(book.values[i]), high = bf16_to_f32(book.values[i + 1]);
    book.bounds[i] =
        i + 1 < values.size() ? (low + high) / 2 : std::numeric_limits<float>::infinity();
  }
  return book;
}

std::size_t key_part_bytes(const BeforeRope& format, BlockShape shape) noexcept {
  return std::size_t{shape.block_tokens} * shape.head_dim * format.bits / 8 +
         n_apart(format, shape) * 2 * sizeof(Element);
}

void encode_keys(const simd::Table& simd, const KeyCoding& coding, const std::byte* bf16,
                 BlockShape shape, std::byte* part) {
  const std::size_t n = std::size_t{shape.block_tokens} * shape.head_dim;
  LARDER_CHECK(n <= kMaxKeyElements);
  alignas(64) Elements y;
  simd.turn_back_keys(coding.turn, bf16, shape, reinterpret_cast<std::byte*>(y.data()));
  simd.pack_codes_k(coding.book, reinterpret_cast<const std::byte*>(y.data()), shape, part);
  const std::size_t n_kept = n_apart(coding.format, shape);
  if (n_kept == 0) return;
  alignas(64) Elements coded;
  std::array<std::uint32_t, kMaxKeyElements> losses;
  simd.decode_codes_k(coding.book, part, shape, reinterpret_cast<std::byte*>(coded.data()));
  find_losses(coding, shape, y, coded, std::span(losses).first(n));
  keep_apart(std::span(losses).first(n), n_kept, y, part + simd::code_bytes(coding.book, shape));
}

void decode_keys(const simd::Table& simd, const KeyCoding& coding, const std::byte* part,
                 BlockShape shape, std::byte* bf16) {
  simd.decode_codes_k(coding.book, part, shape, bf16);
  const std::size_t n = n_apart(coding.format, shape);
  const std::byte* const places = part + simd::code_bytes(coding.book, shape);
  const std::byte* const values = places + n * sizeof(Element);
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t place = load(places + i * sizeof(Element));
    LARDER_DCHECK(place < std::size_t{shape.block_tokens} * shape.head_dim);
    std::memcpy(bf16 + place * sizeof(Element), values + i * sizeof(Element), sizeof(Element));
  }
  simd.turn_keys(coding.turn, shape, bf16);
}

}  // namespace larder
