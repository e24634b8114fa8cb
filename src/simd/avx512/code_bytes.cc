// Parts of codes that stand for bytes: multiplied as they are, and unpacked to byte parts.
#include "simd/avx512/byte_kernels.h"
#include "simd/avx512/codes.h"
#include "simd/by_bits.h"

namespace larder::simd::avx512 {
namespace {

template <class Reader>
void unpack(const CodeBook& book, const std::byte* part, BlockShape shape, bool is_key,
            std::byte* bytes) {
  const Reader reader(book, false);
  // Of one tile after the other: of K as byte parts have them, of V side by side there.
  const std::size_t n_tiles = (is_key ? shape.block_tokens : shape.head_dim) / kLanes;
  const std::size_t n_lines = (is_key ? shape.head_dim : shape.block_tokens) / 4;
  const std::size_t tile = is_key ? n_lines * kLine : kLine;
  const std::size_t step = is_key ? kLine : std::size_t{shape.head_dim} * 4;
  const std::byte* codes = part;
  for (std::size_t t = 0; t < n_tiles; ++t) {
    codes = unpack_lines(reader, codes, n_lines, bytes + t * tile, step, 0);
  }
  __builtin_memcpy(bytes + bytes_of_rows(shape), codes, 2 * std::size_t{shape.block_tokens});
}

}  // namespace

void unpack_codes_k(const CodeBook& book, const std::byte* part, BlockShape shape,
                    std::byte* bytes) {
  by_byte_bits(book.bits, [&](auto n) { unpack<CodedLines<n()>>(book, part, shape, true, bytes); });
}

void unpack_codes_v(const CodeBook& book, const std::byte* part, BlockShape shape,
                    std::byte* bytes) {
  by_byte_bits(book.bits,
               [&](auto n) { unpack<CodedLines<n()>>(book, part, shape, false, bytes); });
}

void run_scores_code_bytes(const CodeBook& book, const float* q, const KvRun& k, BlockShape shape,
                           ScoreTile scores) {
  by_byte_bits(book.bits,
               [&](auto n) { run_scores(CodedLines<n()>(book, true), q, k, shape, scores); });
}

void run_accumulate_code_bytes(const CodeBook& book, ScoreTile weights, const KvRun& v,
                               BlockShape shape, std::uint32_t n_tokens, float* out) {
  by_byte_bits(book.bits, [&](auto n) {
    run_accumulate(CodedLines<n()>(book, true), weights, v, shape, n_tokens, out);
  });
}

}  // namespace larder::simd::avx512
