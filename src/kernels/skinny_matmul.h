// A linear map of a skinny matrix: few rows, as of sampled tokens, noise levels, conditioning and
// patches of small images. Most of its time is the weight's way through memory, for which a BLAS
// takes three times as long. Can be differentiated any number of times.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/dispatch.h"

namespace lf {

// x [..., depth], weight [features, depth], bias [features] or undefined. The fused form is for 4
// to 64 rows in single precision, with gradients if the depth is a multiple of 16; anything else is
// LibTorch's.
at::Tensor linear_map(const KernelChoice& kernels, const at::Tensor& x, const at::Tensor& weight,
                      const at::Tensor& bias);
at::Tensor linear_map_reference(const at::Tensor& x, const at::Tensor& weight,
                                const at::Tensor& bias);

}  // namespace lf
