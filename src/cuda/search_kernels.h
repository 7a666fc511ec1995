// The nearest code of a codebook for each row.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/gpu/device_operations.h"

namespace lf {

cudaError_t cuda_nearest_code(const DeviceSearch& task, cudaStream_t stream);

}  // namespace lf
