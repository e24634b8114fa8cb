#include "kv/stripe_digest.h"

#include <openssl/evp.h>

#include <cstddef>
#include <vector>

#include "base/check.h"

namespace larder {
namespace {

void append(std::vector<std::uint8_t>& bytes, const void* data, std::size_t n) {
  const auto* first = static_cast<const std::uint8_t*>(data);
  bytes.insert(bytes.end(), first, first + n);
}

StripeDigest digest_of(const std::vector<std::uint8_t>& bytes) {
  StripeDigest digest;
  unsigned n = 0;
  LARDER_CHECK(EVP_Digest(bytes.data(), bytes.size(), digest.data(), &n, EVP_sha256(), nullptr) ==
                   1 &&
               n == digest.size());
  return digest;
}

}  // namespace

StripeDigest root_digest(const StripeDigest& fingerprint, std::string_view salt) {
  std::vector<std::uint8_t> bytes(fingerprint.begin(), fingerprint.end());
  append(bytes, salt.data(), salt.size());
  return digest_of(bytes);
}

StripeDigest stripe_digest(const StripeDigest& parent, std::span<const TokenId> tokens,
                           std::uint32_t n_plain) {
  std::vector<std::uint8_t> bytes(parent.begin(), parent.end());
  append(bytes, &n_plain, sizeof n_plain);
  append(bytes, tokens.data(), tokens.size_bytes());
  return digest_of(bytes);
}

}  // namespace larder
