// Pointwise operations between matrix products: GELU, plain or gated, and residuals.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/gpu/device_operations.h"

namespace lf {

cudaError_t cuda_activation(const DeviceActivation& task, cudaStream_t stream);
cudaError_t cuda_activation_back(const DeviceActivation& task, cudaStream_t stream);
cudaError_t cuda_add_residual(const DeviceResidual& task, cudaStream_t stream);

}  // namespace lf
