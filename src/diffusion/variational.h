// The variational bound of a tabulated diffusion: the bits that each step costs, for the hybrid
// loss of Improved DDPM, and their total.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "diffusion/sampler.h"

namespace lf {

// Steps k of a table as tensors that broadcast over clips and frames.
struct VariationalSteps {
  at::Tensor from_image;   // of the reverse step's mean
  at::Tensor least, most;  // bounds of its log variance
  at::Tensor first;        // bool: the step that ends in the clean image
};

// `shape` has as many elements as `steps`, for instance [B, T, 1, 1, 1].
VariationalSteps variational_steps(const NoiseSchedule& schedule, const std::vector<int>& steps,
                                   at::IntArrayRef shape, const at::Device& device);

// Bits of each element of the image x in [-1, 1], one of 256 grey levels: the negative log
// likelihood in the first step, the divergence of the two reverse steps in the others.
at::Tensor step_bits(const VariationalSteps& steps, const at::Tensor& x, const Estimate& estimate);

// Bits per element of x over all steps and the prior, averaged over the batch. Evaluates the
// network at every level of the table.
double bits_per_element(const NoiseSchedule& schedule, const at::Tensor& x,
                        const SamplerParts& parts);

}  // namespace lf
