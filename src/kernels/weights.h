// Weights as kernels read them.
#pragma once

#include <ATen/core/Tensor.h>

namespace lf {

// Single precision and contiguous; undefined stays undefined.
at::Tensor plain_weight(const at::Tensor& weight);
const float* data_or_null(const at::Tensor& weight);

}  // namespace lf
