// Scores smoothed over neighbouring rows.
#pragma once

#include <cstdint>
#include <span>

namespace larder {

/// scores[i] = the mean of scores[i - kernel / 2 .. i + kernel / 2], rows outside counting as zero,
/// as SnapKV pools (Li et al. 2024, arXiv:2404.14469). `scratch` [scores.size()] is overwritten.
/// REQUIRES: an odd kernel
void pool_scores(std::uint32_t kernel, std::span<float> scratch, std::span<float> scores);

}  // namespace larder
