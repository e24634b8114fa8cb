// Kernels that decode in registers against the primitives over decoded parts, bit by bit. What
// these give for byte parts: byte_runs_test.cc.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "codec/kv_codec.h"
#include "simd/byte_rows.h"

namespace larder {
namespace {

constexpr std::uint32_t kBlocks = 19;  // more than one chunk of 512 rows where blocks have 32

// All codes that there are, of both signs, whatever rows would give.
void scramble(const simd::CodeBook& book, BlockShape shape, std::byte* part, std::mt19937& rng) {
  for (std::size_t i = 0; i < simd::code_bytes(book, shape); ++i) {
    const auto code = static_cast<std::uint8_t>(rng());
    const bool is_nan = book.bits == 8 && !simd::codes_are_values(book) && code % 128 == 127;
    part[i] = std::byte{is_nan ? std::uint8_t{0} : code};
  }
}

// A run of sealed parts of one side, every second one scrambled, and the same as bf16 parts with
// the scales of their rows, or as byte parts where codes are bytes.
struct CodedRun {
  std::vector<std::vector<std::byte>> sealed, decoded, unpacked;
  std::vector<const std::byte*> sealed_parts, decoded_parts, unpacked_parts;
  std::vector<float> scales;  // [rows], 1 where rows have none

  simd::KvRun of(const std::vector<const std::byte*>& parts, std::size_t n) const {
    return {parts.data(), n, parts.size() - n};
  }
};

CodedRun make_run(const simd::Table& table, const simd::CodeBook& book, BlockShape shape,
                  bool is_key, std::mt19937& rng) {
  const KvCodec& bf16 = kv_codec(KvFormat::bf16);
  std::normal_distribution<float> normal(0.3F, 1.0F);
  CodedRun run;
  std::vector<float> row(shape.head_dim);
  for (std::uint32_t b = 0; b < kBlocks; ++b) {
    std::vector<std::byte> open(std::size_t{shape.block_tokens} * shape.head_dim * 2);
    for (std::uint32_t t = 0; t < shape.block_tokens; ++t) {
      for (float& x : row) x = normal(rng);
      (is_key ? bf16.append_k : bf16.append_v)(row.data(), t, shape, open.data());
    }
    auto& part = run.sealed.emplace_back(is_key ? simd::k_part_bytes(book, shape)
                                                : simd::v_part_bytes(book, shape));
    (is_key ? table.encode_codes_k : table.encode_codes_v)(book, open.data(), shape, part.data());
    if (b % 2 == 1) scramble(book, shape, part.data(), rng);
    auto& decoded = run.decoded.emplace_back(open.size());
    (is_key ? table.decode_codes_k : table.decode_codes_v)(book, part.data(), shape,
                                                           decoded.data());
    if (simd::codes_are_bytes(book)) {
      auto& bytes = run.unpacked.emplace_back(simd::byte_part_bytes(shape));
      (is_key ? table.unpack_codes_k : table.unpack_codes_v)(book, part.data(), shape,
                                                             bytes.data());
      std::copy_n(part.begin() + static_cast<std::ptrdiff_t>(simd::code_bytes(book, shape)),
                  2 * shape.block_tokens,
                  bytes.begin() + static_cast<std::ptrdiff_t>(simd::bytes_of_rows(shape)));
    }
    const std::size_t n = run.scales.size();
    run.scales.resize(n + shape.block_tokens, 1.0F);
    if (book.fit == simd::CodeFit::range) continue;
    table.read_halves(part.data() + simd::code_bytes(book, shape), shape.block_tokens,
                      run.scales.data() + n);
  }
  for (const auto& part : run.sealed) run.sealed_parts.push_back(part.data());
  for (const auto& part : run.decoded) run.decoded_parts.push_back(part.data());
  for (const auto& part : run.unpacked) run.unpacked_parts.push_back(part.data());
  return run;
}

std::vector<float> normals(std::size_t n, std::mt19937& rng) {
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& f : x) f = normal(rng);
  return x;
}

template <class F>
void for_each_case(bool is_key, F&& f) {
  for (const simd::Table* table : simd::available()) {
    for (const KvCodec* codec : kv_codecs()) {
      if (codec->codes == nullptr) continue;
      for (const BlockShape shape :
           {BlockShape{16, 16}, BlockShape{16, 64}, BlockShape{32, 80}, BlockShape{32, 96},
            BlockShape{48, 64}, BlockShape{80, 48}, BlockShape{64, 112}, BlockShape{128, 128},
            BlockShape{32, 256}, BlockShape{16, 1024}}) {
        if (!(is_key ? codec->refusal_k : codec->refusal_v)(shape).empty()) continue;
        SCOPED_TRACE(testing::Message() << table->name << ' ' << codec->name << ' '
                                        << shape.block_tokens << " x " << shape.head_dim);
        std::mt19937 rng(7);
        f(*table, *codec->codes, shape, make_run(*table, *codec->codes, shape, is_key, rng), rng);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST(CodeRuns, AnyCodeDecodesAsInTheScalarSet) {
  const simd::Table& scalar = simd::scalar_table();
  for (const bool is_key : {true, false}) {
    for_each_case(is_key, [&](const simd::Table&, const simd::CodeBook& book, BlockShape shape,
                              const CodedRun& run, std::mt19937&) {
      for (std::size_t b = 0; b < run.sealed.size(); ++b) {
        std::vector<std::byte> expected(run.decoded[b].size());
        (is_key ? scalar.decode_codes_k : scalar.decode_codes_v)(book, run.sealed_parts[b], shape,
                                                                 expected.data());
        ASSERT_EQ(run.decoded[b], expected) << "block " << b;
      }
    });
  }
}

// Every element of a byte part is the value that a bf16 part has, and scales are copied.
TEST(CodeRuns, AnyCodeUnpacksToTheByteOfItsValue) {
  const simd::Table& scalar = simd::scalar_table();
  for (const bool is_key : {true, false}) {
    for_each_case(is_key, [&](const simd::Table&, const simd::CodeBook& book, BlockShape shape,
                              const CodedRun& run, std::mt19937&) {
      ASSERT_EQ(run.unpacked.empty(), !simd::codes_are_bytes(book));
      for (std::size_t b = 0; b < run.unpacked.size(); ++b) {
        std::vector<std::byte> bf16(run.decoded[b].size());
        (is_key ? scalar.decode_bytes_k : scalar.decode_bytes_v)(run.unpacked_parts[b], shape,
                                                                 bf16.data());
        ASSERT_EQ(bf16, run.decoded[b]) << "block " << b;
        const auto scales =
            run.sealed[b].begin() + static_cast<std::ptrdiff_t>(simd::code_bytes(book, shape));
        ASSERT_TRUE(std::equal(
            scales, run.sealed[b].end(),
            run.unpacked[b].begin() + static_cast<std::ptrdiff_t>(simd::bytes_of_rows(shape)),
            run.unpacked[b].end()));
      }
    });
  }
}

TEST(CodeRuns, ScoresAreThoseOfDecodedParts) {
  for_each_case(true, [](const simd::Table& table, const simd::CodeBook& book, BlockShape shape,
                         const CodedRun& run, std::mt19937& rng) {
    if (table.run_scores_codes == nullptr) return;
    for (const std::size_t n_q : {1U, 2U, 3U, 4U, 7U, 17U, 35U}) {
      for (const std::size_t n_blocks : {std::size_t{1}, std::size_t{kBlocks}}) {
        const std::size_t n = n_blocks * shape.block_tokens, stride = n + 3;
        const std::vector<float> q = normals(n_q * shape.head_dim, rng);
        std::vector<float> expected(n_q * stride, -7.0F), out = expected;
        if (simd::codes_are_bytes(book)) {
          table.run_scores_bytes(q.data(), run.of(run.unpacked_parts, n_blocks), shape,
                                 {expected.data(), n_q, stride});
        } else {
          table.run_scores_bf16(q.data(), run.of(run.decoded_parts, n_blocks), shape,
                                {expected.data(), n_q, stride});
          for (std::size_t i = 0; i < n_q; ++i) {
            for (std::size_t t = 0; t < n; ++t) expected[i * stride + t] *= run.scales[t];
          }
        }
        table.run_scores_codes(book, q.data(), run.of(run.sealed_parts, n_blocks), shape,
                               {out.data(), n_q, stride});
        ASSERT_EQ(std::memcmp(out.data(), expected.data(), out.size() * sizeof(float)), 0)
            << n_q << " queries, " << n_blocks << " blocks";
      }
    }
  });
}

TEST(CodeRuns, WeightedSumsAreThoseOfDecodedParts) {
  for_each_case(false, [](const simd::Table& table, const simd::CodeBook& book, BlockShape shape,
                          const CodedRun& run, std::mt19937& rng) {
    if (table.run_scores_codes == nullptr) return;
    for (const std::size_t n_q : {1U, 2U, 3U, 4U, 7U, 17U, 35U}) {
      for (const std::size_t n_blocks : {std::size_t{1}, std::size_t{2}, std::size_t{kBlocks}}) {
        const std::size_t n = n_blocks * shape.block_tokens, stride = n + 5;
        std::vector<float> weights = normals(n_q * stride, rng);
        std::vector<float> out = normals(n_q * shape.head_dim, rng), expected = out;
        table.run_accumulate_codes(book, {weights.data(), n_q, stride},
                                   run.of(run.sealed_parts, n_blocks), shape,
                                   static_cast<std::uint32_t>(n), out.data());
        if (simd::codes_are_bytes(book)) {
          table.run_accumulate_bytes({weights.data(), n_q, stride},
                                     run.of(run.unpacked_parts, n_blocks), shape,
                                     static_cast<std::uint32_t>(n), expected.data());
        } else {
          for (std::size_t i = 0; i < n_q; ++i) {
            for (std::size_t t = 0; t < n; ++t) weights[i * stride + t] *= run.scales[t];
          }
          table.run_accumulate_bf16({weights.data(), n_q, stride},
                                    run.of(run.decoded_parts, n_blocks), shape,
                                    static_cast<std::uint32_t>(n), expected.data());
        }
        ASSERT_EQ(std::memcmp(out.data(), expected.data(), out.size() * sizeof(float)), 0)
            << n_q << " queries, " << n_blocks << " blocks";
      }
    }
  });
}

}  // namespace
}  // namespace larder
