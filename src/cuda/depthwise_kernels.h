// The causal depthwise convolution with its residual.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/gpu/device_operations.h"

namespace lf {

cudaError_t cuda_depthwise(const DeviceDepthwise& task, cudaStream_t stream);
cudaError_t cuda_depthwise_back(const DeviceDepthwise& task, cudaStream_t stream);

}  // namespace lf
