#include <algorithm>
#include <array>

#include "model/arch/families.h"

namespace larder {

std::span<const Arch* const> architectures() noexcept {
  static constexpr std::array<const Arch*, 9> kAll = {
      &kLlama, &kMistral, &kQwen2, &kQwen3, &kGemma2, &kGemma3, &kPhi3, &kDeepseek2, &kLarderCla};
  return kAll;
}

const Arch* find_arch(std::string_view gguf_name) noexcept {
  for (const Arch* arch : architectures()) {
    if (arch->name == gguf_name) return arch;
  }
  return nullptr;
}

const Arch* find_arch_hf(std::string_view hf_name) noexcept {
  for (const Arch* arch : architectures()) {
    if (std::find(arch->hf_names.begin(), arch->hf_names.end(), hf_name) != arch->hf_names.end()) {
      return arch;
    }
  }
  return nullptr;
}

}  // namespace larder
