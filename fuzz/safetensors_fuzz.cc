// Whatever bytes come as a safetensors file or a llama2.c checkpoint: an error or a file whose
// views can be read.
#include <cstdint>
#include <span>

#include "model/io/llama2c_source.h"
#include "model/io/safetensors.h"

namespace {

std::uint64_t g_sum = 0;  // keeps the reads alive

void touch(std::span<const std::byte> bytes) {
  for (const std::byte b : bytes) g_sum += static_cast<std::uint64_t>(b);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace larder;
  const auto bytes = std::as_bytes(std::span(data, size));
  if (const auto file = SafetensorsFile::parse(bytes, "fuzz")) {
    for (const auto& tensor : (*file)->tensors()) {
      if (tensor.view) touch(tensor.view->bytes);
    }
  }
  if (const auto source = parse_llama2c(bytes, "fuzz")) {
    for (const auto& name : (*source)->tensor_names()) touch((*source)->find(name)->bytes);
  }
  return 0;
}
