// Attention of up to 64 tokens in space or in time.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/gpu/device_operations.h"

namespace lf {

// Whether the matrices of both passes fit the shared memory of the current device.
bool cuda_takes_attention(const DeviceAttention& task);
cudaError_t cuda_attention(const DeviceAttention& task, cudaStream_t stream);
cudaError_t cuda_attention_back(const DeviceAttention& task, cudaStream_t stream);

}  // namespace lf
