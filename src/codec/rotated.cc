#include "codec/rotated.h"

#include "codec/byte_rows.h"
#include "codec/code_books.h"
#include "codec/coded_rows.h"

namespace larder {
namespace {

// Lloyd-Max quantisers of N(0, 1), positive halves.
constexpr simd::CodeBook kBook2 = make_normal_book<2>(2, {0.4528F, 1.5104F});
constexpr simd::CodeBook kBook3 = make_normal_book<4>(3, {0.2451F, 0.7560F, 1.3439F, 2.1519F});
constexpr simd::CodeBook kBook4 = make_normal_book<8>(
    4, {0.1284F, 0.3880F, 0.6568F, 0.9423F, 1.2562F, 1.6180F, 2.0690F, 2.7326F});
constexpr simd::CodeBook kBook5 = make_normal_book<16>(
    5, {0.0659F, 0.1981F, 0.3314F, 0.4667F, 0.6049F, 0.7471F, 0.8946F, 1.0488F, 1.2118F, 1.3863F,
        1.5762F, 1.7872F, 2.0287F, 2.3177F, 2.6911F, 3.2607F});

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
