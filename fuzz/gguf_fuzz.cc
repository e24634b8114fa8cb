// GGUF bytes as a model source: refused with a message or read, never a crash or a huge allocation.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/check.h"
#include "model/io/gguf.h"
#include "model/io/gguf_source.h"
#include "tensor/quantize.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto file = larder::GgufFile::parse(std::as_bytes(std::span(data, size)), "fuzz");
  if (!file) {
    LARDER_CHECK(!file.error().message.empty());
    return 0;
  }
  for (const larder::GgufTensor& tensor : (*file)->tensors()) {
    const larder::TensorView& view = tensor.view;
    std::vector<float> row(view.n_cols());
    larder::decode_row(view.dtype, view.bytes.data(), row.size(), row.data());
    LARDER_CHECK((*file)->find(tensor.name) == &tensor);
  }
  const auto source = larder::source_of(std::move(*file), {.vocab_only = true});
  LARDER_CHECK(source || !source.error().message.empty());
  return 0;
}
