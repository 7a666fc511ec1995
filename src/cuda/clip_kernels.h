// Kernels over batches of clips, launched on raw pointers and a stream. The .cu file includes no
// torch header: nvcc needs a minute for those. Called by device.cc.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/device.h"

namespace lf {

cudaError_t cuda_to_signed_unit(const uint8_t* clips_NTHWC, const BatchShape& shape,
                                float* out_NTCHW, cudaStream_t stream);

}  // namespace lf
