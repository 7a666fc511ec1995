// The variational bound of a diffusion over a table: how many bits each step costs, for the hybrid
// loss of Improved DDPM, and all of them together. Called by the diffusion models and by tests.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "diffusion/sampler.h"

namespace lf {

// Steps k of a table as tensors to broadcast over clips and frames.
struct VariationalSteps {
  at::Tensor from_image;   // of the reverse step's mean
  at::Tensor least, most;  // logarithms of the variances it may have
  at::Tensor first;        // bool: the step that ends in the image itself
};

// `shape` has as many elements as `steps`, for instance [B, T, 1, 1, 1].
VariationalSteps variational_steps(const NoiseSchedule& schedule, const std::vector<int>& steps,
                                   at::IntArrayRef shape, const at::Device& device);

// Bits of each number of the image x in [-1, 1], one of 256 grey levels: in the first step of the
// estimate itself, in all others the divergence of the two reverse steps.
at::Tensor step_bits(const VariationalSteps& steps, const at::Tensor& x, const Estimate& estimate);

// Bits per number of x for all steps and the start from noise, the mean over the batch. An
// evaluation for each level of the table.
double bits_per_number(const NoiseSchedule& schedule, const at::Tensor& x,
                       const SamplerParts& parts);

}  // namespace lf
