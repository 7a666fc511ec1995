// Norm, scale and shift, SiLU and residual over rows of channels.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/gpu/device_operations.h"

namespace lf {

cudaError_t cuda_norm(const DeviceNorm& task, cudaStream_t stream);
cudaError_t cuda_norm_back(const DeviceNorm& task, cudaStream_t stream);

}  // namespace lf
