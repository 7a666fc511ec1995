// Samplers: from noise to clips through falling noise levels, for any schedule and any network that
// estimates the image. A sampler sees one tensor and two functions; clips, given frames and
// guidance are the caller's. Coefficients are in double precision.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <span>
#include <vector>

#include "diffusion/noise_schedule.h"

namespace lf {

// The network's estimate of the image of z. `variance`, if the network predicts it, interpolates
// the log variance of a reverse step: 0 is ReverseStep::least, 1 is `most`.
struct Estimate {
  at::Tensor image, variance;
};

struct SamplerParts {
  std::function<Estimate(const at::Tensor& z, const NoiseLevel& level)> estimate;
  std::function<at::Tensor()> noise;  // fresh N(0, 1) of z's shape
};

// The noise levels of a sampling run, noisiest first; the clean image follows the last.
std::vector<NoiseLevel> sampling_levels(const SamplerConfig& config, const NoiseSchedule& schedule);

// An interruption_point() before each estimate.
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
