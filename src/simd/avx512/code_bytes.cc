// Parts of codes that stand for bytes: multiplied as they are, and unpacked to byte parts.
#include "simd/avx512/byte_arithmetic.h"
#include "simd/avx512/codes.h"
#include "simd/by_number.h"

namespace larder::simd::avx512 {
namespace {

template <class Reader>
void unpack(const CodeBook& book, const std::byte* part, BlockShape shape, bool is_key,
            std::byte* bytes) {
  const Reader reader(book, false);
  const auto lines = [&](const std::byte* codes, std::size_t n, std::byte* to, std::size_t step) {
    return unpack_lines(reader, codes, n, to, step, 0);
  };
  unpack_part(part, shape, is_key, bytes, lines);
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
  by_byte_bits(book.bits, [&](auto n) {
    run_scores<Arithmetic>(CodedLines<n()>(book, true), q, k, shape, scores);
  });
}

void run_accumulate_code_bytes(const CodeBook& book, ScoreTile weights, const KvRun& v,
                               BlockShape shape, std::uint32_t n_tokens, float* out) {
  by_byte_bits(book.bits, [&](auto n) {
    run_accumulate<Arithmetic>(CodedLines<n()>(book, true), weights, v, shape, n_tokens, out);
  });
}

}  // namespace larder::simd::avx512
