#include "codec/rotated.h"

#include "codec/byte_rows.h"
#include "codec/code_books.h"
#include "codec/coded_rows.h"

namespace larder {
namespace {

// Lloyd-Max quantisers of N(0, 1), positive halves, in units that make them nearly integers: their
// mean square errors are 0.1175, 0.03455, 0.00951 and 0.00252, by 0.6 % more than of real numbers
// at 5 bits, by less than 0.1 % at fewer.
constexpr simd::CodeBook kBook2 = make_normal_book<2>(2, 0.015104F, {30, 100});
constexpr simd::CodeBook kBook3 = make_normal_book<4>(3, 0.024453F, {10, 31, 55, 88});
constexpr simd::CodeBook kBook4 =
    make_normal_book<8>(4, 0.026225F, {5, 15, 25, 36, 48, 62, 79, 104});
constexpr simd::CodeBook kBook5 = make_normal_book<16>(
    5, 0.033895F, {2, 6, 10, 14, 18, 22, 26, 31, 36, 41, 47, 53, 60, 68, 79, 96});

constexpr KvCodec kRot8 = ByteRows::codec(KvFormat::rot8, "rot8", true);
constexpr KvCodec kRot5 = CodedRows<kBook5>::codec(KvFormat::rot5, "rot5", true);
constexpr KvCodec kRot4 = CodedRows<kBook4>::codec(KvFormat::rot4, "rot4", true);
constexpr KvCodec kRot3 = CodedRows<kBook3>::codec(KvFormat::rot3, "rot3", true);
constexpr KvCodec kRot2 = CodedRows<kBook2>::codec(KvFormat::rot2, "rot2", true);

}  // namespace

const KvCodec& rot8_codec() noexcept { return kRot8; }
const KvCodec& rot5_codec() noexcept { return kRot5; }
const KvCodec& rot4_codec() noexcept { return kRot4; }
const KvCodec& rot3_codec() noexcept { return kRot3; }
const KvCodec& rot2_codec() noexcept { return kRot2; }

}  // namespace larder
