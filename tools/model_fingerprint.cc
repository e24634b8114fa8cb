#include "model_fingerprint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

namespace larder {
namespace {

class Fingerprint {
 public:
  void add(std::string_view bytes) {
    for (const char c : bytes) {
      hash_ = (hash_ ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
    }
  }
  std::string text() const { return fmt::format("{:016x}", hash_); }

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325U;
};

}  // namespace

std::string text_fingerprint(std::string_view text) {
  Fingerprint fingerprint;
  fingerprint.add(text);
  return fingerprint.text();
}

std::string model_fingerprint(const ModelSource& source) {
  constexpr std::size_t kEnd = 4096;
  Fingerprint fingerprint;
  fingerprint.add(source.config().arch);
  for (const std::string& name : source.tensor_names()) {
    const auto tensor = source.find(name);
    if (!tensor) continue;
    fingerprint.add(fmt::format("{} {} {}x{}", name, static_cast<int>(tensor->dtype),
                                tensor->n_rows(), tensor->n_cols()));
    const std::string_view bytes(reinterpret_cast<const char*>(tensor->bytes.data()),
                                 tensor->bytes.size());
    fingerprint.add(bytes.substr(0, kEnd));
    fingerprint.add(bytes.substr(bytes.size() - std::min(bytes.size(), kEnd)));
  }
  return fingerprint.text();
}

}  // namespace larder
