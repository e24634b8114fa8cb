#include "codec/kvq.h"

#include <fmt/format.h>

#include "base/check.h"
#include "codec/key_codes.h"

namespace larder {
namespace {

template <const BeforeRope& kFormat>
struct Kvq {
  static std::size_t k_bytes(BlockShape shape) { return key_part_bytes(kFormat, shape); }
  static std::size_t no_bytes(BlockShape) { return 0; }

  static std::string refusal_k(BlockShape shape) {
    constexpr std::size_t kChannels = kFormat.bits == 3 ? 32 : 16;
    if (shape.head_dim % kChannels != 0) {
      return fmt::format("head_dim {} is not a multiple of {}", shape.head_dim, kChannels);
    }
    if (std::size_t{shape.block_tokens} * shape.head_dim <= kMaxKeyElements) return "";
    return fmt::format("blocks of {} tokens x {} channels have more than {} elements",
                       shape.block_tokens, shape.head_dim, kMaxKeyElements);
  }
  static std::string refusal_v(BlockShape) {
    return "it stores keys as they were before rope; name another one for values, rot4 for example";
  }
  static void no_row(const std::byte*, std::uint32_t, BlockShape, float*) {
    check_failed("keys before rope are read with their layer's table", __FILE__, __LINE__);
  }

  static constexpr KvCodec codec(KvFormat format, std::string_view name) {
    KvCodec codec{};
    codec.format = format;
    codec.raw = KvFormat::bf16;
    codec.name = name;
    codec.k_bytes = k_bytes;
    codec.v_bytes = no_bytes;
    codec.refusal_k = refusal_k;
    codec.refusal_v = refusal_v;
    codec.read_k = codec.read_v = no_row;
    codec.before_rope = &kFormat;
    return codec;
  }
};

constexpr BeforeRope kFour{4, false}, kFourApart{4, true}, kThree{3, false}, kThreeApart{3, true},
    kTwo{2, false}, kTwoApart{2, true};
constexpr KvCodec kKvq4 = Kvq<kFour>::codec(KvFormat::kvq4, "kvq4");
constexpr KvCodec kKvq4o = Kvq<kFourApart>::codec(KvFormat::kvq4o, "kvq4o");
constexpr KvCodec kKvq3 = Kvq<kThree>::codec(KvFormat::kvq3, "kvq3");
constexpr KvCodec kKvq3o = Kvq<kThreeApart>::codec(KvFormat::kvq3o, "kvq3o");
constexpr KvCodec kKvq2 = Kvq<kTwo>::codec(KvFormat::kvq2, "kvq2");
constexpr KvCodec kKvq2o = Kvq<kTwoApart>::codec(KvFormat::kvq2o, "kvq2o");

}  // namespace

const KvCodec& kvq4_codec() noexcept { return kKvq4; }
const KvCodec& kvq4o_codec() noexcept { return kKvq4o; }
const KvCodec& kvq3_codec() noexcept { return kKvq3; }
const KvCodec& kvq3o_codec() noexcept { return kKvq3o; }
const KvCodec& kvq2_codec() noexcept { return kKvq2; }
const KvCodec& kvq2o_codec() noexcept { return kKvq2o; }

}  // namespace larder
