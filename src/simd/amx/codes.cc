// Runs of blocks of codes: a block at a time becomes bf16 in the first-level cache and is
// multiplied from there, so that sums are those of decoded blocks to the bit.
#include "simd/avx512/codes.h"

#include "simd/amx/kv.h"
#include "simd/amx/kv_tiles.h"
#include "simd/avx512/kv.h"
#include "simd/avx512/planes.h"
#include "simd/avx512/primitives.h"
#include "simd/avx512/range_planes.h"
#include "simd/by_number.h"
#include "simd/run_distance.h"

namespace larder::simd::amx {
namespace {

/// Decodes parts one after the other, and asks for the bytes of later ones as it goes: asked for in
/// one go they would fill the buffers of the cache and make the decoding wait.
class Decoder {
  using Reader = avx512::PlaneReader<8>;

 public:
  Decoder(const CodeBook& book, BlockShape shape) : reader_(book), shape_(shape) {}

  void k(const std::byte* part, std::ptrdiff_t ahead, std::byte* to) const {
    planes(part, ahead, shape_.block_tokens / kLanes * (shape_.head_dim / 2), to, 64);
  }
  void v(const std::byte* part, std::ptrdiff_t ahead, std::byte* to) const {
    const std::size_t lane_bytes = shape_.block_tokens * kLanes;
    for (std::size_t c = 0; c < shape_.head_dim / kLanes; ++c) {
      planes(part + c * lane_bytes, ahead, shape_.block_tokens / 2, to + c * 64,
             std::size_t{shape_.head_dim} * 4);
    }
  }

 private:
  // Planes of consecutive groups; plane p goes to `to` + p * stride. Not inlined: what stands
  // around it decides how well it keeps in registers.
  [[gnu::noinline]] void planes(const std::byte* codes, std::ptrdiff_t ahead, std::size_t n,
                                std::byte* to, std::size_t stride) const {
    const Reader reader = reader_;
    for (std::size_t p = 0; p < n; p += Reader::kPlanes) {
      __m512i words[Reader::kWords];
      avx512::load_words(codes, words);
      fetch_second_level(codes, ahead, Reader::kWords);
      avx512::for_each_of(
          typename Reader::Indices{}, [&](auto i) __attribute__((always_inline)) {
            _mm512_storeu_si512(to + i() * stride, reader.template plane<i()>(words));
          });
      codes += Reader::kWords * 64;
      to += Reader::kPlanes * stride;
    }
  }

  Reader reader_;
  BlockShape shape_;
};

/// The same for the formats whose elements have a zero.
template <int kBits>
class RangeDecoder {
 public:
  RangeDecoder(const CodeBook& book, BlockShape shape) : book_(book), shape_(shape) {}

  void k(const std::byte* part, std::ptrdiff_t ahead, std::byte* to) const {
    planes(avx512::RangePlanes::of_k(book_, part, shape_, to), ahead);
  }
  void v(const std::byte* part, std::ptrdiff_t ahead, std::byte* to) const {
    planes(avx512::RangePlanes::of_v(book_, part, shape_, to), ahead);
  }

 private:
  void planes(const avx512::RangePlanes& planes, std::ptrdiff_t ahead) const {
    avx512::decode_ranges<kBits>(
        book_, planes, planes.codes + code_bytes(book_, shape_),
        [ahead](const std::byte* line) { fetch_second_level(line, ahead, 1); });
  }

  const CodeBook& book_;
  BlockShape shape_;
};

bool has_row_scales(const CodeBook& book) { return book.fit != CodeFit::range; }

/// At most kTileRows queries.
template <class D>
void score_codes(const D& decoder, const CodeBook& book, const QueryTiles& queries, const KvRun& k,
                 BlockShape shape, ScoreTile scores) {
  alignas(64) std::byte part[kMaxPartBytes];
  alignas(64) float scales[kMaxBlockTokens];
  const std::size_t n_codes = code_bytes(book, shape), n_bytes = k_part_bytes(book, shape);
  const std::size_t tile_bytes = kLanes * shape.head_dim * 2;
  const std::size_t n_tiles = shape.block_tokens / kLanes;
  for (std::size_t b = 0; b < k.n_blocks; ++b) {
    const std::byte* const codes = k.parts[b];
    const std::ptrdiff_t ahead = distance_ahead(k, b, n_bytes);
    avx512::fetch_lines(codes + ahead + n_codes, n_bytes - n_codes);
    decoder.k(codes, ahead, part);
    for (std::size_t t = 0; t < n_tiles; t += QueryTiles::kMaxKeys) {
      KeyTile keys[QueryTiles::kMaxKeys];
      int n = 0;
      for (; n < QueryTiles::kMaxKeys && t + n < n_tiles; ++n) {
        keys[n] = {part + (t + n) * tile_bytes, 0};
      }
      queries.score(keys, n, scores.data + t * kLanes, scores.stride);
    }
    if (has_row_scales(book)) {
      avx512::read_halves(codes + n_codes, shape.block_tokens, scales);
      for (std::size_t i = 0; i < scores.n_q; ++i) {
        avx512::multiply(scales, scores.data + i * scores.stride, shape.block_tokens);
      }
    }
    scores.data += shape.block_tokens;
  }
}

/// Weights of kMaxTokens tokens at most, with the scales of their rows, packed [n_q].
void pack_weights(const CodeBook& book, ScoreTile weights, const KvRun& v, BlockShape shape,
                  std::size_t n_tokens, std::uint16_t* packed) {
  alignas(64) float scales[ChannelTiles::kMaxTokens], scaled[ChannelTiles::kMaxTokens];
  for (std::size_t t = 0; has_row_scales(book) && t < n_tokens; t += shape.block_tokens) {
    avx512::read_halves(v.parts[t / shape.block_tokens] + code_bytes(book, shape),
                        shape.block_tokens, scales + t);
  }
  for (std::size_t i = 0; i < weights.n_q; ++i) {
    const float* row = weights.data + i * weights.stride;
    if (has_row_scales(book)) {
      std::memcpy(scaled, row, n_tokens * sizeof(float));
      avx512::multiply(scales, scaled, n_tokens);
      row = scaled;
    }
    pack(row, n_tokens, packed + i * ChannelTiles::kStride);
  }
}

/// Some coded blocks of V, kMaxTokens tokens at most, and their weights for kTileRows queries at
/// most.
struct WeightedCodes {
  const CodeBook& book;
  const std::uint16_t* weights;  // packed
  std::size_t n_q;
  const KvRun& v;
  std::size_t n_blocks;
};

template <class D>
void accumulate_codes(const D& decoder, const WeightedCodes& in, BlockShape shape, float* out) {
  alignas(64) std::byte part[kMaxPartBytes];
  const std::size_t n_bytes = v_part_bytes(in.book, shape);
  const std::size_t head_dim = shape.head_dim, row_bytes = head_dim * 4;
  const std::size_t n_tiles_of_head = head_dim / kLanes;
  const bool one_pass = n_tiles_of_head <= ChannelTiles::kMaxSums;
  const ChannelTiles sums(in.n_q, step_tokens(shape.block_tokens), kLanes);
  const auto add_block = [&](auto n_tiles, std::size_t b, std::size_t first) {
    for (std::size_t t = 0; t < shape.block_tokens; t += sums.step()) {
      sums.add<n_tiles()>(in.weights + b * shape.block_tokens + t,
                          part + t / 2 * row_bytes + first * 4, row_bytes);
    }
  };
  const auto decode_block = [&](std::size_t b) {
    decoder.v(in.v.parts[b], distance_ahead(in.v, b, n_bytes), part);
  };
  if (one_pass) {  // sums stay in the tiles from the first block to the last
    for_each_pass<ChannelTiles::kMaxSums>(n_tiles_of_head, [&](auto n_tiles, std::size_t) {
      sums.begin<n_tiles()>(out, head_dim);
      for (std::size_t b = 0; b < in.n_blocks; ++b) {
        decode_block(b);
        add_block(n_tiles, b, 0);
      }
      sums.end<n_tiles()>(out, head_dim);
    });
    return;
  }
  for (std::size_t b = 0; b < in.n_blocks; ++b) {
    decode_block(b);
    for_each_pass<ChannelTiles::kMaxSums>(n_tiles_of_head, [&](auto n_tiles, std::size_t tile) {
      const std::size_t first = tile * kLanes;
      sums.begin<n_tiles()>(out + first, head_dim);
      add_block(n_tiles, b, first);
      sums.end<n_tiles()>(out + first, head_dim);
    });
  }
}

template <class D>
void score_all(const CodeBook& book, const float* q, const KvRun& k, BlockShape shape,
               ScoreTile scores) {
  const D decoder(book, shape);
  while (scores.n_q > 0) {
    const std::size_t n = scores.n_q < kTileRows ? scores.n_q : kTileRows;
    score_codes(decoder, book, QueryTiles(q, n, shape.head_dim), k, shape,
                {scores.data, n, scores.stride});
    q += n * shape.head_dim;
    scores.data += n * scores.stride;
    scores.n_q -= n;
  }
}

template <class D>
void accumulate_all(const CodeBook& book, ScoreTile weights, const KvRun& v, BlockShape shape,
                    std::size_t n_tokens, float* out) {
  alignas(64) std::uint16_t packed[kTileRows * ChannelTiles::kStride];
  const D decoder(book, shape);
  const std::size_t chunk_blocks = ChannelTiles::kMaxTokens / shape.block_tokens;
  while (weights.n_q > 0) {
    const std::size_t n_q = weights.n_q < kTileRows ? weights.n_q : kTileRows;
    std::size_t n_left = n_tokens / shape.block_tokens;
    ScoreTile some{weights.data, n_q, weights.stride};
    for (KvRun run = v; n_left > 0;) {
      const std::size_t n = n_left < chunk_blocks ? n_left : chunk_blocks;
      pack_weights(book, some, run, shape, n * shape.block_tokens, packed);
      accumulate_codes(decoder, {book, packed, n_q, run, n}, shape, out);
      some.data += n * shape.block_tokens;
      run.parts += n;
      run.n_blocks -= n;
      n_left -= n;
    }
    weights.data += n_q * weights.stride;
    weights.n_q -= n_q;
    out += n_q * shape.head_dim;
  }
}

}  // namespace

void run_scores_codes(const CodeBook& book, const float* q, const KvRun& k, BlockShape shape,
                      ScoreTile scores) {
  if (codes_are_bytes(book)) return run_scores_code_bytes(book, q, k, shape, scores);
  if (book.fit != CodeFit::range) return score_all<Decoder>(book, q, k, shape, scores);
  by_range_bits(book.bits,
                [&](auto n) { score_all<RangeDecoder<n()>>(book, q, k, shape, scores); });
}

void run_accumulate_codes(const CodeBook& book, ScoreTile weights, const KvRun& v, BlockShape shape,
                          std::uint32_t n_tokens, float* out) {
  if (codes_are_bytes(book)) {
    return run_accumulate_code_bytes(book, weights, v, shape, n_tokens, out);
  }
  if (book.fit != CodeFit::range) {
    return accumulate_all<Decoder>(book, weights, v, shape, n_tokens, out);
  }
  by_range_bits(book.bits, [&](auto n) {
    accumulate_all<RangeDecoder<n()>>(book, weights, v, shape, n_tokens, out);
  });
}

}  // namespace larder::simd::amx
