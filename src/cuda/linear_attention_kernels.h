// Linear attention within frames.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/gpu/device_operations.h"

namespace lf {

// Whether the matrices of both passes fit the shared memory of the current device.
bool cuda_takes_linear_attention(const DeviceLinearAttention& task);
cudaError_t cuda_linear_attention(const DeviceLinearAttention& task, cudaStream_t stream);
cudaError_t cuda_linear_attention_back(const DeviceLinearAttention& task, cudaStream_t stream);

}  // namespace lf
