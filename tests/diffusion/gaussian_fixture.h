// Data that are N(0.3, 0.5^2), whose best denoiser is known: what a sampler makes of noise is then
// a linear function of every normal number it draws, found exactly by drawing unit vectors.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <vector>

#include "diffusion/sampler.h"

namespace lf {

constexpr double kToyMean = 0.3, kToyDeviation = 0.5;

inline at::Tensor toy_image(const at::Tensor& z, const NoiseLevel& level) {
  const double variance = kToyDeviation * kToyDeviation;
  const double gain =
      level.alpha * variance / (level.alpha * level.alpha * variance + level.sigma * level.sigma);
  return kToyMean + gain * (z - level.alpha * kToyMean);
}

struct ToySamples {
  double mean = 0, deviation = 0;
};

// The mean and standard deviation of what the sampler makes, exact. `variance` as in Estimate.
inline ToySamples toy_samples(const DiffusionConfig& config, double variance = -1) {
  const NoiseSchedule schedule(config, 64);
  const auto levels = static_cast<int64_t>(sampling_levels(config.sampler(), schedule).size());
  const int64_t draws = (4 + config.sampler().corrector_steps()) * levels + 4;
  int64_t drawn = 0;
  SamplerParts parts;
  parts.estimate = [&](const at::Tensor& z, const NoiseLevel& level) {
    Estimate estimate{toy_image(z, level), {}};
    if (variance >= 0) estimate.variance = at::zeros_like(z) + variance;
    return estimate;
  };
  parts.noise = [&] {
    at::Tensor unit = at::zeros({draws}, at::kDouble);
    unit[drawn++] = 1;
    return unit;
  };
  const at::Tensor made = sample_from_noise(config.sampler(), schedule, parts);
  const double mean = made[draws - 1].item<double>();  // the one never drawn
  EXPECT_LT(drawn, draws);
  return {mean, std::sqrt((made - mean).square().sum().item<double>())};
}

// What the sampler makes of the starting noise {1.7, -0.4, 0.9}.
inline at::Tensor toy_path(const DiffusionConfig& config) {
  const at::Tensor start = at::tensor({1.7, -0.4, 0.9}, at::kDouble);
  SamplerParts parts;
  parts.estimate = [](const at::Tensor& z, const NoiseLevel& level) {
    return Estimate{toy_image(z, level), {}};
  };
  parts.noise = [&] { return start; };
  return sample_from_noise(config.sampler(), NoiseSchedule(config, 64), parts);
}

// Where the probability flow takes the starting noise from the schedule's noisiest level.
inline at::Tensor toy_flow(const DiffusionConfig& config) {
  const NoiseSchedule schedule(config, 64);
  const NoiseLevel level = sampling_levels(config.sampler(), schedule).front();
  const at::Tensor z = schedule.start_deviation(level) * at::tensor({1.7, -0.4, 0.9}, at::kDouble);
  return kToyMean + kToyDeviation * (z - level.alpha * kToyMean) /
                        std::hypot(level.alpha * kToyDeviation, level.sigma);
}

}  // namespace lf
