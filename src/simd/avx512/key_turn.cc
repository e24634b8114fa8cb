// A plane, 16 tokens of two channels, is two vectors of floats here: the tokens of either channel.
#include "simd/avx512/key_turn.h"

#include "simd/avx512/code_writer.h"
#include "simd/by_number.h"
#include "simd/scalar/key_turn.h"

namespace larder::simd::avx512 {
namespace {

constexpr std::size_t kPlaneBytes = 64;

inline Pair load_plane(const std::byte* bf16) {
  const __m512i pairs = _mm512_loadu_si512(bf16);
  return {_mm512_castsi512_ps(_mm512_maskz_slli_epi32(kAll, pairs, 16)),
          _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(-65536)))};
}

// To nearest, ties to even: the upper halves of the result. The instruction for it would take
// denormals for zeros.
inline __m512i rounded(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd =
      _mm512_and_si512(_mm512_maskz_srli_epi32(kAll, bits, 16), _mm512_set1_epi32(1));
  return _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
}
inline void store_plane(Pair x, std::byte* bf16) {
  const __m512i low = _mm512_maskz_srli_epi32(kAll, rounded(x.low), 16);
  const __m512i high = _mm512_and_si512(rounded(x.high), _mm512_set1_epi32(-65536));
  _mm512_storeu_si512(bf16, _mm512_or_si512(low, high));
}

struct Angles {
  __m512 cos, sin;
};
inline Angles angles(const KeyTurn& turn, std::size_t i, std::size_t row) {
  const __m512 rc = _mm512_loadu_ps(turn.row_cos + i * turn.row_stride + row);
  const __m512 rs = _mm512_loadu_ps(turn.row_sin + i * turn.row_stride + row);
  const __m512 bc = _mm512_set1_ps(turn.block_cos[i]), bs = _mm512_set1_ps(turn.block_sin[i]);
  return {_mm512_fmsub_ps(bc, rc, _mm512_mul_ps(bs, rs)),
          _mm512_fmadd_ps(bs, rc, _mm512_mul_ps(bc, rs))};
}

// From what is stored to keys.
struct Forward {
  static Pair load(const KeyTurn& turn, const std::byte* plane, std::size_t channel) {
    const Pair y = load_plane(plane);
    return {scaled(turn, y.low, channel), scaled(turn, y.high, channel + 1)};
  }
  static void store(const KeyTurn&, Pair x, std::size_t, std::byte* plane) {
    store_plane(x, plane);
  }
  static void turn(__m512& a, __m512& b, Angles by) {
    const __m512 x = a;
    a = _mm512_fmsub_ps(x, by.cos, _mm512_mul_ps(b, by.sin));
    b = _mm512_fmadd_ps(b, by.cos, _mm512_mul_ps(x, by.sin));
  }

 private:
  static __m512 scaled(const KeyTurn& turn, __m512 y, std::size_t c) {
    return _mm512_fmadd_ps(_mm512_set1_ps(turn.spread[c]), y, _mm512_set1_ps(turn.mean[c]));
  }
};

// And back.
struct Back {
  static Pair load(const KeyTurn&, const std::byte* plane, std::size_t) { return load_pair(plane); }
  static void store(const KeyTurn& turn, Pair x, std::size_t channel, std::byte* plane) {
    store_plane({scaled(turn, x.low, channel), scaled(turn, x.high, channel + 1)}, plane);
  }
  static void turn(__m512& a, __m512& b, Angles by) {
    const __m512 x = a;
    a = _mm512_fmadd_ps(x, by.cos, _mm512_mul_ps(b, by.sin));
    b = _mm512_fmsub_ps(b, by.cos, _mm512_mul_ps(x, by.sin));
  }

 private:
  static __m512 scaled(const KeyTurn& turn, __m512 x, std::size_t c) {
    return _mm512_mul_ps(_mm512_sub_ps(x, _mm512_set1_ps(turn.mean[c])),
                         _mm512_set1_ps(turn.inverse[c]));
  }
};

// The planes of 16 tokens, the first of which is row `row` of the block. REQUIRES: pairs of
// channels that are adjacent, or n_half even.
template <class Way>
void turn_tile(const KeyTurn& turn, const std::byte* from, std::size_t n_planes, std::size_t row,
               std::byte* to) {
  if (turn.adjacent) {
    for (std::size_t i = 0; i < turn.n_half; ++i) {
      Pair x = Way::load(turn, from + i * kPlaneBytes, 2 * i);
      Way::turn(x.low, x.high, angles(turn, i, row));
      Way::store(turn, x, 2 * i, to + i * kPlaneBytes);
    }
  } else {
    const std::size_t n = turn.n_half / 2;  // planes between the two channels of a pair
    for (std::size_t p = 0; p < n; ++p) {
      Pair a = Way::load(turn, from + p * kPlaneBytes, 2 * p);
      Pair b = Way::load(turn, from + (p + n) * kPlaneBytes, 2 * (p + n));
      Way::turn(a.low, b.low, angles(turn, 2 * p, row));
      Way::turn(a.high, b.high, angles(turn, 2 * p + 1, row));
      Way::store(turn, a, 2 * p, to + p * kPlaneBytes);
      Way::store(turn, b, 2 * (p + n), to + (p + n) * kPlaneBytes);
    }
  }
  for (std::size_t p = turn.n_half; p < n_planes; ++p) {
    Way::store(turn, Way::load(turn, from + p * kPlaneBytes, 2 * p), 2 * p, to + p * kPlaneBytes);
  }
}

template <class Way>
void turn_part(const KeyTurn& turn, const std::byte* from, BlockShape shape, std::byte* to) {
  const std::size_t n_planes = shape.head_dim / 2;
  for (std::size_t row = 0; row < shape.block_tokens; row += kLanes) {
    turn_tile<Way>(turn, from, n_planes, row, to);
    from += n_planes * kPlaneBytes;
    to += n_planes * kPlaneBytes;
  }
}

// Then the two channels of a pair are not in the same lanes.
bool is_crossed(const KeyTurn& turn) { return !turn.adjacent && turn.n_half % 2 != 0; }

template <int kBits>
void pack(const CodeBook& book, const std::byte* bf16, std::size_t n_planes, std::byte* part) {
  using Reader = PlaneReader<kBits>;
  const Coder<kBits> coder(book);
  for (std::size_t p = 0; p < n_planes; p += Reader::kPlanes) {
    GroupWriter<kBits> group;
    for_each_of(
        typename Reader::Indices{}, [&](auto i) __attribute__((always_inline)) {
          const Pair x = load_plane(bf16 + (p + i()) * kPlaneBytes);
          group.template put<i()>(join(coder.code(x.low), coder.code(x.high)));
        });
    group.write(part);
    part += Reader::kWords * 64;
  }
}

}  // namespace

void turn_keys(const KeyTurn& turn, BlockShape shape, std::byte* bf16) {
  if (is_crossed(turn)) return scalar::turn_keys(turn, shape, bf16);
  turn_part<Forward>(turn, bf16, shape, bf16);
}

void turn_back_keys(const KeyTurn& turn, const std::byte* bf16, BlockShape shape, std::byte* y) {
  if (is_crossed(turn)) return scalar::turn_back_keys(turn, bf16, shape, y);
  turn_part<Back>(turn, bf16, shape, y);
}

void pack_codes_k(const CodeBook& book, const std::byte* bf16, BlockShape shape, std::byte* part) {
  const std::size_t n_planes = shape.block_tokens / kLanes * (shape.head_dim / 2);
  by_byte_bits(book.bits, [&](auto n) { pack<n()>(book, bf16, n_planes, part); });
}

}  // namespace larder::simd::avx512
