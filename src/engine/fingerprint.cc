#include "engine/fingerprint.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <memory>
#include <span>

#include "base/check.h"

namespace larder {
namespace {

constexpr std::size_t kSampleBytes = 256;  // of each tensor: a page of the file, not all of it

}  // namespace

StripeDigest cache_fingerprint(const ModelSource& source, std::string_view format) {
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        EVP_MD_CTX_free);
  LARDER_CHECK(context && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1);
  const auto add = [&context](std::span<const std::byte> bytes) {
    LARDER_CHECK(EVP_DigestUpdate(context.get(), bytes.data(), bytes.size()) == 1);
  };
  add(std::as_bytes(std::span(format)));
  for (const std::string& name : source.tensor_names()) {
    const auto tensor = source.find(name);
    if (!tensor) continue;
    add(std::as_bytes(std::span(name)));
    add(std::as_bytes(std::span(&tensor->dtype, 1)));
    add(std::as_bytes(std::span(tensor->shape)));
    add(tensor->bytes.first(std::min(tensor->bytes.size(), kSampleBytes)));
  }
  StripeDigest digest;
  unsigned n = 0;
  LARDER_CHECK(EVP_DigestFinal_ex(context.get(), digest.data(), &n) == 1 && n == digest.size());
  return digest;
}

std::string text_digest(std::string_view text) {
  StripeDigest sha;
  unsigned n = 0;
  LARDER_CHECK(EVP_Digest(text.data(), text.size(), sha.data(), &n, EVP_sha256(), nullptr) == 1);
  std::string digest;
  for (std::size_t i = 0; i < 16; ++i) digest += fmt::format("{:02x}", sha[i]);
  return digest;
}

}  // namespace larder
