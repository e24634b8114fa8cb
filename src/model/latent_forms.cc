#include "model/latent_forms.h"

namespace larder {

std::uint32_t plain_prefix(const ModelConfig& config, std::uint32_t n_prompt) noexcept {
  const LatentConfig& c = config.latent;
  if (c.kv_rank == 0) return 0;
  // Multiply-adds of C queries over T rows, per head: the plain form takes T * expand + C * T *
  // plain, the absorbed one C * T * absorbed. It pays once C reaches expand / (absorbed - plain).
  const std::uint64_t expand = std::uint64_t{c.kv_rank} * (c.nope_dim + c.v_dim);
  const std::uint64_t plain = std::uint64_t{config.head_dim} + c.v_dim;
  const std::uint64_t absorbed = std::uint64_t{c.row_dim()} + c.kv_rank;
  if (absorbed <= plain || expand > kFormPanel * (absorbed - plain)) return 0;
  return n_prompt / kFormPanel * kFormPanel;
}

}  // namespace larder
