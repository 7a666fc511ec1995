// A causal depthwise 3x3x3 convolution over clips, which sees no later time step, with its
// residual: the position generator of C-ViViT.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/dispatch.h"

namespace lf {

// x + convolution(x) + bias over x_BTHWC; weight [C, 1, 3, 3, 3] (time, row, column), the last time
// slice is the present; zeros around the clip and before it.
at::Tensor causal_depthwise(const KernelChoice& kernels, const at::Tensor& x_BTHWC,
                            const at::Tensor& weight, const at::Tensor& bias);
at::Tensor causal_depthwise_reference(const at::Tensor& x_BTHWC, const at::Tensor& weight,
                                      const at::Tensor& bias);

}  // namespace lf
