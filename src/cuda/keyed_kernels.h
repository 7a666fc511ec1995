// Random numbers keyed by clips (base/random), made on the device with the CPU's bits.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/gpu/device.h"

namespace lf {

cudaError_t cuda_keyed_uniform(const KeyedNumbers& wanted, float* out, cudaStream_t stream);
cudaError_t cuda_keyed_normal(const KeyedNumbers& wanted, float* out, cudaStream_t stream);

}  // namespace lf
