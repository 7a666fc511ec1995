// A linear map of few rows, as sampling makes them one token at a time: a BLAS copies the whole
// weight for each call before it multiplies, here it is read once as it lies. Called by the layers
// of src/model.
#pragma once

#include <ATen/core/Tensor.h>

namespace lf {

// x [..., depth], weight [features, depth], bias [features] or undefined. The fused form is for 4
// to 64 rows in single precision without gradients; anything else is LibTorch's.
at::Tensor linear_map(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);
at::Tensor linear_map_reference(const at::Tensor& x, const at::Tensor& weight,
                                const at::Tensor& bias);

}  // namespace lf
