// What is done to a network's estimate of the image before a sampler uses it: guidance by a class,
// keeping it within the range of pixels, and moving it so that given frames come out as given.
// Called by the diffusion models and by tests.
#pragma once

#include <ATen/core/Tensor.h>

#include "run.pb.h"

namespace lf {

// without + scale (with - without), so 1 is the conditional and 0 the unconditional estimate.
at::Tensor guided(const at::Tensor& with, const at::Tensor& without, double scale);

// Clips are rows of the first dimension; a DYNAMIC threshold is each clip's own.
at::Tensor within_range(const at::Tensor& image, const SamplerConfig& config);

// Reconstruction guidance: image - weight alpha / 2 d|given - made|^2 / dz, where `made`, what the
// network makes of the given frames, was computed from z with gradients on.
at::Tensor towards_given(const at::Tensor& image, const at::Tensor& made, const at::Tensor& given,
                         const at::Tensor& z, double alpha, double weight);

}  // namespace lf
