// A linear map of few rows, as those of tokens sampled one at a time, of clips' conditions and of
// the patches of a small image: most of its time is the weight's way through memory, which a BLAS
// makes three times as long. Its slopes have slopes. Called by the layers of src/model.
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
