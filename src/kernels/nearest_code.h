// The nearest vector of a codebook for each row, without a table of all distances in memory. Has
// no gradient.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/dispatch.h"

namespace lf {

// For rows [N, D] the indices [N] (int64) into codebook [K, D], by Euclidean distance; of equals
// the first. In single precision whatever autocast says.
at::Tensor nearest_code(const KernelChoice& kernels, const at::Tensor& rows,
                        const at::Tensor& codebook);
at::Tensor nearest_code_reference(const at::Tensor& rows, const at::Tensor& codebook);

}  // namespace lf
