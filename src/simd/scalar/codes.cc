#include "simd/scalar/codes.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "simd/byte_rows.h"
#include "tensor/half.h"

namespace larder::simd::scalar {
namespace {

constexpr std::size_t kLanes = 16;  // tokens of a K plane, channels of a V plane
constexpr std::size_t kPlane = 32;  // codes
constexpr std::size_t kVector = 64;
constexpr float kMaxElement = 65504.0F;  // of f16: what is beyond would have no finite scale

// Planes of codes in memory, zero before the first `put`.
class Planes {
 public:
  Planes(std::uint32_t bits, std::byte* data) : bits_(bits), data_(data) {}

  void put(std::size_t plane, std::size_t j, unsigned code) const {
    const std::size_t i = plane % group_planes(bits_);
    std::byte* const group = data_ + plane / group_planes(bits_) * n_words(bits_) * kVector;
    if (bits_ == 8) {
      group[byte_of(i, j)] = static_cast<std::byte>(code);
    } else if (i < 15) {
      const std::size_t per_word = 16 / bits_;
      set(group, i / per_word, j, code << (bits_ * (i % per_word)));
    } else {
      for (std::size_t k = 0; k < bits_; ++k) set(group, k, j, (code >> k & 1U) << 15);
    }
  }
  // The 32 codes of a plane.
  void get(std::size_t plane, unsigned* codes) const {
    const std::size_t i = plane % group_planes(bits_);
    const std::byte* const group = data_ + plane / group_planes(bits_) * n_words(bits_) * kVector;
    if (bits_ == 8) {
      for (std::size_t j = 0; j < kPlane; ++j)
        codes[j] = static_cast<unsigned>(group[byte_of(i, j)]);
    } else if (i < 15) {
      const std::size_t per_word = 16 / bits_, k = i / per_word;
      const auto shift = static_cast<unsigned>(bits_ * (i % per_word));
      const unsigned mask = (1U << bits_) - 1U;
      for (std::size_t j = 0; j < kPlane; ++j) codes[j] = word(group, k, j) >> shift & mask;
    } else {
      for (std::size_t j = 0; j < kPlane; ++j) {
        codes[j] = 0;
        for (std::size_t k = 0; k < bits_; ++k) codes[j] |= (word(group, k, j) >> 15) << k;
      }
    }
  }

 private:
  static std::size_t byte_of(std::size_t i, std::size_t j) { return 16 * (j / 8) + 8 * i + j % 8; }
  static unsigned word(const std::byte* group, std::size_t k, std::size_t j) {
    std::uint16_t w;
    std::memcpy(&w, group + k * kVector + 2 * j, sizeof(w));
    return w;
  }
  static void set(std::byte* group, std::size_t k, std::size_t j, unsigned bits) {
    const auto w = static_cast<std::uint16_t>(word(group, k, j) | bits);
    std::memcpy(group + k * kVector + 2 * j, &w, sizeof(w));
  }

  std::uint32_t bits_;
  std::byte* data_;
};

// Where a code stands: its plane, and its place there.
struct Place {
  std::size_t plane, j;
};
Place place_k(std::size_t token, std::size_t channel, BlockShape shape) {
  return {token / kLanes * (shape.head_dim / 2) + channel / 2, 2 * (token % kLanes) + channel % 2};
}
Place place_v(std::size_t token, std::size_t channel, BlockShape shape) {
  return {channel / kLanes * (shape.block_tokens / 2) + token / 2,
          2 * (channel % kLanes) + token % 2};
}

struct Groups {
  std::size_t n, size;
};
struct Element {
  std::size_t token, channel;
};

// The same place in a bf16 part, in bytes: planes of K stand in its order, V has the channels of
// two tokens side by side.
std::size_t at_k(std::size_t token, std::size_t channel, BlockShape shape) {
  const Place place = place_k(token, channel, shape);
  return (place.plane * kPlane + place.j) * 2;
}
std::size_t at_v(std::size_t token, std::size_t channel, BlockShape shape) {
  return ((token / 2 * shape.head_dim + channel) * 2 + token % 2) * 2;
}

// How one side, K or V, is laid out, and which elements have a scale and a zero of CodeFit::range
// in common: (g, i) for i < size.
struct Keys {
  static constexpr auto kPlace = place_k;
  static constexpr auto kAt = at_k;
  static constexpr auto kByte = byte_at_k;
  static Groups groups(BlockShape shape) { return {shape.head_dim, shape.block_tokens}; }
  static Element element(std::size_t g, std::size_t i) { return {i, g}; }
  static std::size_t group_of(Element e) { return e.channel; }
  // What stands at place j of a plane, and where the plane stands in a bf16 part, in bytes.
  static Element element_of(std::size_t plane, std::size_t j, BlockShape shape) {
    const std::size_t n_pairs = shape.head_dim / 2;
    return {plane / n_pairs * kLanes + j / 2, plane % n_pairs * 2 + j % 2};
  }
  static std::size_t at_plane(std::size_t plane, BlockShape) { return plane * kVector; }
};
struct Values {
  static constexpr auto kPlace = place_v;
  static constexpr auto kAt = at_v;
  static constexpr auto kByte = byte_at_v;
  static Groups groups(BlockShape shape) { return {shape.block_tokens, shape.head_dim}; }
  static Element element(std::size_t g, std::size_t i) { return {g, i}; }
  static std::size_t group_of(Element e) { return e.token; }
  static Element element_of(std::size_t plane, std::size_t j, BlockShape shape) {
    const std::size_t n_pairs = shape.block_tokens / 2;
    return {plane % n_pairs * 2 + j % 2, plane / n_pairs * kLanes + j / 2};
  }
  static std::size_t at_plane(std::size_t plane, BlockShape shape) {
    const std::size_t n_pairs = shape.block_tokens / 2;
    return plane % n_pairs * shape.head_dim * 4 + plane / n_pairs * kVector;
  }
};

std::uint16_t load(const std::byte* bf16) {
  std::uint16_t x;
  std::memcpy(&x, bf16, sizeof(x));
  return x;
}

float finite(float x) { return std::isnan(x) ? 0.0F : std::clamp(x, -kMaxElement, kMaxElement); }

float value(const CodeBook& book, unsigned code) {
  if (codes_are_values(book)) return static_cast<float>(code);
  if (book.bits < 8) return bf16_to_f32(book.values[code]);
  const float magnitude = bf16_to_f32(book.values[code & 127U]);
  return (code & 128U) != 0 ? -magnitude : magnitude;
}

unsigned nearest(const CodeBook& book, float x) {
  if (codes_are_values(book)) {
    return static_cast<unsigned>(std::clamp(std::ceil(x - 0.5F), 0.0F, 255.0F));
  }
  const bool is_signed = book.bits == 8;
  const float at = is_signed ? std::abs(x) : x;
  const float* const end = book.bounds + (is_signed ? 127 : (1U << book.bits) - 1U);
  const auto code = static_cast<unsigned>(std::lower_bound(book.bounds, end, at) - book.bounds);
  return is_signed && std::signbit(x) ? code | 128U : code;
}

// Codes [head_dim] of a finite row; returns its scale as f16.
std::uint16_t encode_row(const CodeBook& book, const float* row, std::uint32_t head_dim,
                         unsigned* codes) {
  float largest = 0, squares = 0;
  for (std::uint32_t c = 0; c < head_dim; ++c) {
    const float x = row[c];
    largest = std::max(largest, std::abs(x));
    squares += x * x;
  }
  std::uint16_t scale = 0;
  float factor = 0;
  if (book.fit == CodeFit::largest) {
    const float top = value(book, book.bits == 8 ? 127U : (1U << book.bits) - 1U);
    scale = f32_to_f16(largest / top);
    if (f16_to_f32(scale) > 0) factor = 1 / f16_to_f32(scale);
  } else if (squares > 0) {
    factor = std::sqrt(static_cast<float>(head_dim)) / std::sqrt(squares);
  }
  float code_squares = 0;
  for (std::uint32_t c = 0; c < head_dim; ++c) {
    codes[c] = nearest(book, row[c] * factor);
    code_squares += value(book, codes[c]) * value(book, codes[c]);
  }
  if (book.fit == CodeFit::norm) {
    scale = f32_to_f16(std::min(std::sqrt(squares / code_squares), kMaxElement));
  }
  return scale;
}

void store(std::uint16_t half, std::byte* to) { std::memcpy(to, &half, sizeof(half)); }
float load_half(const std::byte* half) { return f16_to_f32(load(half)); }

template <class Side>
void encode_ranges(const CodeBook& book, const std::byte* bf16, BlockShape shape, std::byte* part) {
  const Groups groups = Side::groups(shape);
  const std::size_t n_bytes = code_bytes(book, shape);
  const float top = value(book, (1U << book.bits) - 1U);
  std::memset(part, 0, n_bytes);
  const Planes planes(book.bits, part);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const auto at = [&](std::size_t g, std::size_t i) {
    const Element e = Side::element(g, i);
    return bf16_to_f32(load(bf16 + Side::kAt(e.token, e.channel, shape)));
  };
  const auto is_good = [](float x) { return std::abs(x) <= kMaxElement; };
  for (std::size_t g = 0; g < groups.n; ++g) {
    float low = kInfinity, high = -kInfinity;
    for (std::size_t i = 0; i < groups.size; ++i) {
      const float x = at(g, i);
      if (!is_good(x)) continue;  // so that it leaves other rows alone
      low = std::min(low, x);
      high = std::max(high, x);
    }
    if (low > high) low = high = 0;
    const std::uint16_t zero_half = f32_to_f16(low);
    const float zero = f16_to_f32(zero_half);
    const std::uint16_t scale_half = f32_to_f16(std::max(high - zero, 0.0F) / top);
    const float scale = f16_to_f32(scale_half), factor = scale > 0 ? 1 / scale : 0.0F;
    store(scale_half, part + n_bytes + 2 * g);
    store(zero_half, part + n_bytes + 2 * (groups.n + g));
    for (std::size_t i = 0; i < groups.size; ++i) {
      const Element e = Side::element(g, i);
      const Place to = Side::kPlace(e.token, e.channel, shape);
      const float x = is_good(at(g, i)) ? at(g, i) : 0.0F;
      planes.put(to.plane, to.j, nearest(book, (x - zero) * factor));
    }
  }
}

template <class Side>
void encode(const CodeBook& book, const std::byte* bf16, BlockShape shape, std::byte* part) {
  if (book.fit == CodeFit::range) return encode_ranges<Side>(book, bf16, shape, part);
  std::array<float, kMaxHeadDim> row{};
  std::array<unsigned, kMaxHeadDim> codes;
  const std::size_t n_bytes = code_bytes(book, shape);
  std::memset(part, 0, n_bytes);
  const Planes planes(book.bits, part);
  for (std::uint32_t t = 0; t < shape.block_tokens; ++t) {
    for (std::uint32_t c = 0; c < shape.head_dim; ++c) {
      row[c] = finite(bf16_to_f32(load(bf16 + Side::kAt(t, c, shape))));
    }
    const std::uint16_t scale = encode_row(book, row.data(), shape.head_dim, codes.data());
    store(scale, part + n_bytes + 2 * std::size_t{t});
    for (std::uint32_t c = 0; c < shape.head_dim; ++c) {
      const Place at = Side::kPlace(t, c, shape);
      planes.put(at.plane, at.j, codes[c]);
    }
  }
}

std::uint16_t bf16_value(const CodeBook& book, unsigned code) {
  const unsigned sign = book.bits == 8 ? code & 128U : 0U;
  return static_cast<std::uint16_t>(book.values[code & 127U] | sign << 8);
}

template <class Side>
void decode(const CodeBook& book, const std::byte* part, BlockShape shape, std::byte* bf16) {
  const Planes planes(book.bits, const_cast<std::byte*>(part));
  const std::byte* const scales = part + code_bytes(book, shape);
  const std::byte* const zeros = scales + 2 * Side::groups(shape).n;
  const std::size_t n_planes = std::size_t{shape.block_tokens} * shape.head_dim / kPlane;
  for (std::size_t p = 0; p < n_planes; ++p) {
    unsigned codes[kPlane];
    std::uint16_t values[kPlane];
    planes.get(p, codes);
    for (std::size_t j = 0; j < kPlane; ++j) {
      if (book.fit != CodeFit::range) {
        values[j] = bf16_value(book, codes[j]);
        continue;
      }
      const std::size_t g = Side::group_of(Side::element_of(p, j, shape));
      values[j] =
          f32_to_bf16(load_half(zeros + 2 * g) + load_half(scales + 2 * g) * value(book, codes[j]));
    }
    std::memcpy(bf16 + Side::at_plane(p, shape), values, sizeof(values));
  }
}

template <class Side>
void unpack(const CodeBook& book, const std::byte* part, BlockShape shape, std::byte* bytes) {
  const Planes planes(book.bits, const_cast<std::byte*>(part));
  const std::size_t n_planes = bytes_of_rows(shape) / kPlane;
  for (std::size_t p = 0; p < n_planes; ++p) {
    unsigned codes[kPlane];
    planes.get(p, codes);
    for (std::size_t j = 0; j < kPlane; ++j) {
      const Element e = Side::element_of(p, j, shape);
      bytes[Side::kByte(e.token, e.channel, shape)] =
          static_cast<std::byte>(static_cast<std::int8_t>(value(book, codes[j])));
    }
  }
}

template <class Side>
void read_row(const CodeBook& book, const std::byte* part, std::uint32_t row, BlockShape shape,
              float* out) {
  const Planes planes(book.bits, const_cast<std::byte*>(part));
  const std::byte* const scales = part + code_bytes(book, shape);
  for (std::uint32_t c = 0; c < shape.head_dim; ++c) {
    const Place at = Side::kPlace(row, c, shape);
    unsigned codes[kPlane];
    planes.get(at.plane, codes);
    const float of_table = value(book, codes[at.j]);
    if (book.fit == CodeFit::range) {
      const std::size_t g = Side::group_of({row, c});
      const std::byte* const zeros = scales + 2 * Side::groups(shape).n;
      out[c] = load_half(zeros + 2 * g) + load_half(scales + 2 * g) * of_table;
    } else {
      out[c] = load_half(scales + 2 * std::size_t{row}) * of_table;
    }
  }
}

}  // namespace

void encode_codes_k(const CodeBook& book, const std::byte* bf16, BlockShape shape,
                    std::byte* part) {
  encode<Keys>(book, bf16, shape, part);
}
void encode_codes_v(const CodeBook& book, const std::byte* bf16, BlockShape shape,
                    std::byte* part) {
  encode<Values>(book, bf16, shape, part);
}
void decode_codes_k(const CodeBook& book, const std::byte* part, BlockShape shape,
                    std::byte* bf16) {
  decode<Keys>(book, part, shape, bf16);
}
void decode_codes_v(const CodeBook& book, const std::byte* part, BlockShape shape,
                    std::byte* bf16) {
  decode<Values>(book, part, shape, bf16);
}

void unpack_codes_k(const CodeBook& book, const std::byte* part, BlockShape shape,
                    std::byte* bytes) {
  unpack<Keys>(book, part, shape, bytes);
}
void unpack_codes_v(const CodeBook& book, const std::byte* part, BlockShape shape,
                    std::byte* bytes) {
  unpack<Values>(book, part, shape, bytes);
}

void read_halves(const std::byte* halves, std::size_t n, float* out) {
  for (std::size_t i = 0; i < n; ++i) out[i] = load_half(halves + 2 * i);
}

void read_code_row_k(const CodeBook& book, const std::byte* part, std::uint32_t row,
                     BlockShape shape, float* out) {
  read_row<Keys>(book, part, row, shape, out);
}
void read_code_row_v(const CodeBook& book, const std::byte* part, std::uint32_t row,
                     BlockShape shape, float* out) {
  read_row<Values>(book, part, row, shape, out);
}

}  // namespace larder::simd::scalar
