// Makes the frames of pseudo videos from their images.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/gpu/device_operations.h"

namespace lf {

cudaError_t cuda_frame(const DeviceFrame& task, cudaStream_t stream);
cudaError_t cuda_show(const DeviceShow& task, cudaStream_t stream);

}  // namespace lf
