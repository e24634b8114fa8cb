#include "kernels/reference/linear.h"

#include <vector>

#include "tensor/quantize.h"

namespace larder::reference {

void linear(const LinearWeight& w, const float* x, std::size_t n_x, float* out,
            std::size_t ld_out) {
  std::vector<float> row(w.n_in);
  const std::size_t bytes = row_bytes(w.dtype, w.n_in);
  for (std::size_t r = 0; r < w.n_out; ++r) {
    decode_row(w.dtype, w.data + r * bytes, w.n_in, row.data());
    for (std::size_t t = 0; t < n_x; ++t) {
      double sum = w.bias == nullptr ? 0.0 : w.bias[r];
      for (std::size_t i = 0; i < w.n_in; ++i) sum += double{row[i]} * double{x[t * w.n_in + i]};
      out[t * ld_out + r] = static_cast<float>(sum);
    }
  }
}

}  // namespace larder::reference
