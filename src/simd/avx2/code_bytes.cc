// Parts of codes that stand for bytes: multiplied as they are, and unpacked to byte parts.
#include "simd/avx2/byte_arithmetic.h"
#include "simd/avx2/codes.h"

namespace larder::simd::avx2 {
namespace {

/// The bytes of a plane, of vector bytes as CodedLines has them, in the lower or the upper half of
/// each dword; the other half is zero.
template <class Reader, int p, bool is_upper>
[[gnu::always_inline]] inline __m256i pair_bytes(const __m256i (&vectors)[Reader::kLines]) {
  constexpr int kFrom = Reader::is_second(p) ? 1 : 0;
  constexpr long long kNone = 0x8080;
  constexpr long long kPair = kFrom | (kFrom + 2) << 8;
  constexpr long long kLane = is_upper ? kPair << 16 | kNone : kNone << 16 | kPair;
  constexpr long long kTwo = kLane | (kLane + (is_upper ? 0x04040000LL : 0x0404LL)) << 32;
  constexpr long long kNextTwo = is_upper ? 0x0808000008080000LL : 0x0000080800000808LL;
  const __m256i order = _mm256_setr_epi64x(kTwo, kTwo + kNextTwo, kTwo, kTwo + kNextTwo);
  return _mm256_shuffle_epi8(vectors[Reader::vector_of(p)], order);
}

/// The next `n` lines, to places `step` apart; returns where they end.
template <class Reader>
const std::byte* unpack_lines(const Reader& reader, const std::byte* codes, std::size_t n,
                              std::byte* to, std::size_t step) {
  using Lines = std::make_integer_sequence<int, Reader::kLines>;
  for (std::size_t i = 0; i < n; i += Reader::kLines) {
    for (int half = 0; half < 2; ++half) {
      __m256i vectors[Reader::kLines];
      for_each_of(
          Lines{}, [&](auto j) __attribute__((always_inline)) {
            vectors[j()] = reader.template bytes<j()>(codes + 32 * half);
          });
      for_each_of(
          Lines{}, [&](auto l) __attribute__((always_inline)) {
            const __m256i line = _mm256_or_si256(pair_bytes<Reader, 2 * l(), false>(vectors),
                                                 pair_bytes<Reader, 2 * l() + 1, true>(vectors));
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + l() * step + 32 * half), line);
          });
    }
    codes += Reader::kBytes;
    to += Reader::kLines * step;
  }
  return codes;
}

}  // namespace

void unpack_codes_k(const CodeBook& book, const std::byte* part, BlockShape shape,
                    std::byte* bytes) {
  unpack_codes<Arithmetic>(book, part, shape, true, bytes);
}

void unpack_codes_v(const CodeBook& book, const std::byte* part, BlockShape shape,
                    std::byte* bytes) {
  unpack_codes<Arithmetic>(book, part, shape, false, bytes);
}

void run_scores_code_bytes(const CodeBook& book, const float* q, const KvRun& k, BlockShape shape,
                           ScoreTile scores) {
  score_codes<Arithmetic>(book, q, k, shape, scores);
}

void run_accumulate_code_bytes(const CodeBook& book, ScoreTile weights, const KvRun& v,
                               BlockShape shape, std::uint32_t n_tokens, float* out) {
  accumulate_codes<Arithmetic>(book, weights, v, shape, n_tokens, out);
}

}  // namespace larder::simd::avx2
