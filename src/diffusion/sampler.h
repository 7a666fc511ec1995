// Samplers: from noise to clips through falling noise levels, for any schedule and any network that
// estimates the image. What a clip is, which of its frames are given and what guides the estimate
// is the caller's: a sampler sees one tensor and two functions. Coefficients are in double
// precision. Called by the diffusion models and by tests.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <span>
#include <vector>

#include "diffusion/noise_schedule.h"

namespace lf {

// What is known of the image of z. `variance`, where the network says it, is the share (0 to 1) of
// the logarithm of the most variance in that of a reverse step, the rest being the least's.
struct Estimate {
  at::Tensor image, variance;
};

struct SamplerParts {
  std::function<Estimate(const at::Tensor& z, const NoiseLevel& level)> estimate;
  std::function<at::Tensor()> noise;  // N(0, 1) of z's shape, new ones in every call
};

// The noise levels that are gone through, noisiest first; after the last comes the clean image.
std::vector<NoiseLevel> sampling_levels(const SamplerConfig& config, const NoiseSchedule& schedule);

at::Tensor sample_from_noise(const SamplerConfig& config, const NoiseSchedule& schedule,
                             const SamplerParts& parts);

// Rows of `lastframe list samplers`.
struct SamplerKind {
  const char* name;  // of SamplerConfig::Kind
  at::Tensor (*run)(const SamplerConfig&, const NoiseSchedule&, const std::vector<NoiseLevel>&,
                    const SamplerParts&, at::Tensor z);
  const char* help;
};
std::span<const SamplerKind> sampler_kinds();

}  // namespace lf
