// Runs of blocks of ggml rows. Their integers are exact in bf16, and each has its scale with 31
// others of its row: so a group of 32 channels is a product of its own, K's scores are multiplied
// by scales behind it, V's weights before. Queries and weights are rounded to bf16 as for other
// formats; what other sets do with integers (simd/integer_rows.h) would take longer here.
//
// *Unpacked parts* have the layout of integer parts, with bf16 numbers for the integers: 16 planes
// of a group are a B tile.
#include "simd/amx/ggml_unpack.h"
#include "simd/amx/kv.h"
#include "simd/amx/kv_tiles.h"
#include "simd/ggml_scales.h"
#include "simd/integer_rows.h"
#include "simd/run_distance.h"

namespace larder::simd::amx {
namespace {

constexpr std::size_t kMaxScales = kMaxBlockTokens * kMaxGroups;

/// What stands in parts, ready to be multiplied. Scales are [d / 32][n], floats or halves.
struct Rows {
  const std::byte* elements;
  const std::byte* scales;
};

/// Parts that were unpacked for many queries.
struct UnpackedSource {
  Rows k(const KvRun& run, std::size_t b, BlockShape shape) {
    return {run.parts[b], run.parts[b] + integer_bytes(shape)};
  }
  Rows v(const KvRun& run, std::size_t b, BlockShape shape) { return k(run, b, shape); }
  /// Those of 16 rows from one on, counted over all groups.
  [[gnu::always_inline]] static __m512 scales(const Rows& rows, std::size_t first) {
    return _mm512_loadu_ps(rows.scales + 4 * first);
  }
};

/// Parts of ggml blocks.
template <class Planes>
class BlockSource {
 public:
  Rows k(const KvRun& run, std::size_t b, BlockShape shape) {
    copy_scales(run.parts[b], shape);
    unpack_k<Planes>(run.parts[b], distance_ahead(run, b, part_bytes<Planes>(shape)), shape, part_);
    return {part_, scales_};
  }
  Rows v(const KvRun& run, std::size_t b, BlockShape shape) {
    copy_scales(run.parts[b], shape);
    unpack_v<Planes>(run.parts[b], distance_ahead(run, b, part_bytes<Planes>(shape)), shape, part_);
    return {part_, scales_};
  }
  [[gnu::always_inline]] static __m512 scales(const Rows& rows, std::size_t first) {
    const auto* const at = reinterpret_cast<const __m256i*>(rows.scales + 2 * first);
    return _mm512_maskz_cvtph_ps(__mmask16{0xffff}, _mm256_loadu_si256(at));
  }

 private:
  // Before the rows are unpacked: vectors of what was just stored in pieces would have to wait.
  void copy_scales(const std::byte* part, BlockShape shape) {
    const std::size_t n_groups = shape.head_dim / kGroupChannels;
    for (std::size_t t = 0; t < shape.block_tokens; ++t) {
      for (std::size_t g = 0; g < n_groups; ++g, part += Planes::kBlockBytes) {
        __builtin_memcpy(scales_ + 2 * (g * shape.block_tokens + t), part, 2);
      }
    }
  }
  alignas(64) std::byte part_[kMaxPartBytes];
  alignas(64) std::byte scales_[kMaxScales * 2];
};

// --- scores --------------------------------------------------------------------------------------

/// At most kTileRows queries, their channels in the order of the planes.
class GroupQueries {
 public:
  GroupQueries(const float* q, std::size_t n_q, std::size_t head_dim)
      : n_q_(n_q), n_groups_(head_dim / kGroupChannels), tiles_(shapes(n_q)) {
    const __m512i in_planes =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
    for (std::size_t i = 0; i < n_q; ++i) {
      std::uint16_t* const row = q_ + i * kStride;
      pack(q + i * head_dim, head_dim, row);
      for (std::size_t g = 0; g < n_groups_; ++g) {
        const __m512i channels = _mm512_loadu_si512(row + g * kStep);
        _mm512_storeu_si512(row + g * kStep, _mm512_shuffle_epi8(channels, in_planes));
      }
    }
  }

  /// Scores of all tokens of a block; those of query i go to out + i * stride.
  template <class Source>
  void score(const Rows& rows, BlockShape shape, float* out, std::size_t stride) const {
    std::size_t tile = 0;
    if (n_groups_ <= 2) {
      for (; (tile + 2) * kLanes <= shape.block_tokens; tile += 2) {
        score<Source, 2>(rows, shape, tile, out + tile * kLanes, stride);
      }
    }
    for (; tile * kLanes < shape.block_tokens; ++tile) {
      score<Source, 1>(rows, shape, tile, out + tile * kLanes, stride);
    }
  }

 private:
  static constexpr int kMaxTiles = 4, kQuery = 4, kKeys = 5;
  static constexpr std::size_t kStride = kMaxHeadDim + kStep;  // see QueryTiles

  static TileShapes shapes(std::size_t n_q) {
    TileShapes shapes;
    for (int t = 0; t <= kQuery; ++t) shapes.set(t, n_q, kTileRowBytes);
    shapes.set(kKeys, kTileRows, kTileRowBytes);
    return shapes;
  }

  /// kT neighbouring K tiles, their groups as many at a time as there are tiles for.
  template <class Source, int kT>
  void score(const Rows& rows, BlockShape shape, std::size_t tile, float* out,
             std::size_t stride) const {
    constexpr int kG = kMaxTiles / kT;
    alignas(64) float products[kMaxTiles][kTileRows * kLanes];
    for (std::size_t first = 0; first < n_groups_; first += kG) {
      const std::size_t n = n_groups_ - first < kG ? n_groups_ - first : kG;
      for_each_tile<kG>([&](auto g) {
        if (g() >= static_cast<int>(n)) return;
        load_tile<kQuery>(q_ + (first + g()) * kStep, kStride * 2);
        for_each_tile<kT>([&](auto t) {
          constexpr int kC = g() * kT + t();
          const std::size_t group = (tile + t()) * n_groups_ + first + g();
          load_tile<kKeys>(rows.elements + group * kBTileBytes, kTileRowBytes);
          zero_tile<kC>();
          multiply_bf16<kC, kQuery, kKeys>();
          store_tile<kC>(products[kC], kLanes * sizeof(float));
        });
      });
      for (int t = 0; t < kT; ++t) {
        __m512 scales[kG];
        for (std::size_t g = 0; g < n; ++g) {
          const std::size_t row = (tile + static_cast<std::size_t>(t)) * kLanes;
          scales[g] = Source::scales(rows, (first + g) * shape.block_tokens + row);
        }
        for (std::size_t i = 0; i < n_q_; ++i) {
          float* const to = out + i * stride + t * static_cast<int>(kLanes);
          __m512 total = first == 0 ? _mm512_setzero_ps() : _mm512_loadu_ps(to);
          for (std::size_t g = 0; g < n; ++g) {
            const float* const product = products[g * kT + static_cast<std::size_t>(t)];
            total = _mm512_fmadd_ps(_mm512_load_ps(product + i * kLanes), scales[g], total);
          }
          _mm512_storeu_ps(to, total);
        }
      }
    }
  }

  const std::size_t n_q_, n_groups_;
  const TileScope tiles_;
  alignas(64) std::uint16_t q_[kTileRows * kStride];
};

template <class Source>
void run_scores(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  Source source;
  while (scores.n_q > 0) {
    const std::size_t n = scores.n_q < kTileRows ? scores.n_q : kTileRows;
    const GroupQueries queries(q, n, shape.head_dim);
    for (std::size_t b = 0; b < k.n_blocks; ++b) {
      queries.template score<Source>(source.k(k, b, shape), shape,
                                     scores.data + b * shape.block_tokens, scores.stride);
    }
    q += n * shape.head_dim;
    scores.data += n * scores.stride;
    scores.n_q -= n;
  }
}

// --- weighted sums -------------------------------------------------------------------------------

/// Weights of the rows of a block for a group of channels begin so many elements behind those for
/// the group before.
constexpr std::size_t kWeightStride = kMaxBlockTokens + kStep;
constexpr std::size_t kGroupStride = kTileRows * kWeightStride;

/// Weights times scales of a block's rows, for each group of channels.
template <class Source>
void pack_weights(const ScoreTile& weights, const Rows& rows, BlockShape shape,
                  std::uint16_t* packed) {
  const std::size_t n = shape.block_tokens;
  for (std::size_t g = 0; g < shape.head_dim / kGroupChannels; ++g, packed += kGroupStride) {
    for (std::size_t t = 0; t < n; t += kStep) {
      const bool is_whole = n - t > kLanes;
      const __mmask16 rest = is_whole ? __mmask16{0xffff} : __mmask16{0};
      const __m512 low_scales = Source::scales(rows, g * n + t);
      const __m512 high_scales =
          is_whole ? Source::scales(rows, g * n + t + kLanes) : _mm512_setzero_ps();
      for (std::size_t i = 0; i < weights.n_q; ++i) {
        const float* const w = weights.data + i * weights.stride + t;
        const __m512 low = _mm512_mul_ps(_mm512_loadu_ps(w), low_scales);
        const __m512 high = _mm512_mul_ps(_mm512_maskz_loadu_ps(rest, w + kLanes), high_scales);
        _mm512_storeu_si512(packed + i * kWeightStride + t,
                            reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
      }
    }
  }
}

/// The sums in the tiles += for the channels of kG groups from `first` on.
template <int kG>
void add_block(const ChannelTiles& sums, const std::uint16_t* packed, const std::byte* elements,
               BlockShape shape, std::size_t first) {
  const std::size_t row_bytes = std::size_t{shape.head_dim} * 4;
  const std::byte* rows = elements + first * kGroupChannels * 4;
  packed += first * kGroupStride;
  for (std::size_t t = 0; t < shape.block_tokens; t += sums.step()) {
    sums.add_by_two<2 * kG>(packed + t, kWeightStride, kGroupStride, rows, row_bytes);
    rows += sums.step() / 2 * row_bytes;
  }
}

constexpr int kMaxPass = ChannelTiles::kMaxSums / 2;  // groups

/// At most kTileRows queries.
template <class Source>
void accumulate(Source& source, const ScoreTile& weights, const KvRun& v, BlockShape shape,
                std::size_t n_blocks, float* out) {
  alignas(64) std::uint16_t packed[kMaxGroups * kGroupStride];
  const ChannelTiles sums(weights.n_q, step_tokens(shape.block_tokens), kLanes);
  const std::size_t head_dim = shape.head_dim, n_groups = head_dim / kGroupChannels;
  const auto prepare = [&](std::size_t b) {
    const Rows rows = source.v(v, b, shape);
    float* const of_block = weights.data + b * shape.block_tokens;
    pack_weights<Source>({of_block, weights.n_q, weights.stride}, rows, shape, packed);
    return rows.elements;
  };
  if (n_groups <= kMaxPass) {  // sums stay in the tiles from the first block to the last
    for_each_pass<kMaxPass>(n_groups, [&](auto n, std::size_t) {
      sums.begin<2 * n()>(out, head_dim);
      for (std::size_t b = 0; b < n_blocks; ++b) add_block<n()>(sums, packed, prepare(b), shape, 0);
      sums.end<2 * n()>(out, head_dim);
    });
    return;
  }
  for (std::size_t b = 0; b < n_blocks; ++b) {
    const std::byte* const elements = prepare(b);
    for_each_pass<kMaxPass>(n_groups, [&](auto n, std::size_t first) {
      sums.begin<2 * n()>(out + first * kGroupChannels, head_dim);
      add_block<n()>(sums, packed, elements, shape, first);
      sums.end<2 * n()>(out + first * kGroupChannels, head_dim);
    });
  }
}

template <class Source>
void run_accumulate(ScoreTile weights, const KvRun& v, BlockShape shape, std::uint32_t n_tokens,
                    float* out) {
  Source source;
  while (weights.n_q > 0) {
    const std::size_t n_q = weights.n_q < kTileRows ? weights.n_q : kTileRows;
    accumulate(source, {weights.data, n_q, weights.stride}, v, shape, n_tokens / shape.block_tokens,
               out);
    weights.data += n_q * weights.stride;
    weights.n_q -= n_q;
    out += n_q * shape.head_dim;
  }
}

template <class Planes>
void unpack_scales_of(const std::byte* part, BlockShape shape, std::byte* to) {
  unpack_scales(part, Planes::kBlockBytes, shape, to + integer_bytes(shape));
}

}  // namespace

void unpack_q8_0_k(const std::byte* part, BlockShape shape, std::byte* to) {
  unpack_k<Q8Planes>(part, 0, shape, to);
  unpack_scales_of<Q8Planes>(part, shape, to);
}
void unpack_q8_0_v(const std::byte* part, BlockShape shape, std::byte* to) {
  unpack_v<Q8Planes>(part, 0, shape, to);
  unpack_scales_of<Q8Planes>(part, shape, to);
}
void unpack_q4_0_k(const std::byte* part, BlockShape shape, std::byte* to) {
  unpack_k<Q4Planes>(part, 0, shape, to);
  unpack_scales_of<Q4Planes>(part, shape, to);
}
void unpack_q4_0_v(const std::byte* part, BlockShape shape, std::byte* to) {
  unpack_v<Q4Planes>(part, 0, shape, to);
  unpack_scales_of<Q4Planes>(part, shape, to);
}

void run_scores_unpacked(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  run_scores<UnpackedSource>(q, k, shape, scores);
}
void run_scores_q8_0(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  run_scores<BlockSource<Q8Planes>>(q, k, shape, scores);
}
void run_scores_q4_0(const float* q, const KvRun& k, BlockShape shape, ScoreTile scores) {
  run_scores<BlockSource<Q4Planes>>(q, k, shape, scores);
}
void run_accumulate_unpacked(ScoreTile weights, const KvRun& v, BlockShape shape,
                             std::uint32_t n_tokens, float* out) {
  run_accumulate<UnpackedSource>(weights, v, shape, n_tokens, out);
}
void run_accumulate_q8_0(ScoreTile weights, const KvRun& v, BlockShape shape,
                         std::uint32_t n_tokens, float* out) {
  run_accumulate<BlockSource<Q8Planes>>(weights, v, shape, n_tokens, out);
}
void run_accumulate_q4_0(ScoreTile weights, const KvRun& v, BlockShape shape,
                         std::uint32_t n_tokens, float* out) {
  run_accumulate<BlockSource<Q4Planes>>(weights, v, shape, n_tokens, out);
}

}  // namespace larder::simd::amx
