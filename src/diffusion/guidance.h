// Changes to a network's estimate of the image before a sampler uses it: classifier-free guidance,
// thresholding to the range of pixels, and reconstruction guidance towards given frames.
#pragma once

#include <ATen/core/Tensor.h>

#include "run.pb.h"

namespace lf {

// Classifier-free guidance: without + scale (with - without), so that scale 1 is the conditional
// and 0 the unconditional estimate.
at::Tensor guided(const at::Tensor& with, const at::Tensor& without, double scale);

// Thresholds the estimate to [-1, 1]. The first dimension is clips; DYNAMIC has one bound per clip.
at::Tensor within_range(const at::Tensor& image, const SamplerConfig& config);

// Reconstruction guidance: image - weight alpha / 2 d|given - made|^2 / dz. `made`, the network's
// estimate of the given frames, must have been computed from z with gradients on.
at::Tensor towards_given(const at::Tensor& image, const at::Tensor& made, const at::Tensor& given,
                         const at::Tensor& z, double alpha, double weight);

}  // namespace lf
