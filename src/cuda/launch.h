// Launches kernels and gives them shared memory. A file of its own, which tests replace by the
// host's threads (tests/kernels/emulation). For nvcc only.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace lf {

struct Launch {
  int64_t blocks;
  int threads;
  int64_t shared;  // bytes
  cudaStream_t stream;
};

__device__ inline float* shared_memory() {
  extern __shared__ float4 memory[];
  return reinterpret_cast<float*>(memory);
}

// The most bytes a block may have on the current device; 0 if the device does not say.
inline int64_t most_shared_memory() {
  int device = 0, most = 0;
  const bool known =
      cudaGetDevice(&device) == cudaSuccess &&
      cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) == cudaSuccess;
  return known ? most : 0;
}

template <typename... Parameters, typename... Arguments>
cudaError_t launch(const Launch& how, void (*kernel)(Parameters...),
                   const Arguments&... arguments) {
  constexpr int64_t kAlways = 48 * 1024;
  if (how.blocks <= 0 || how.blocks > INT32_MAX) return cudaErrorInvalidValue;
  if (how.shared > kAlways) {
    const cudaError_t status = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                    cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                    static_cast<int>(how.shared));
    if (status != cudaSuccess) return status;
  }
  kernel<<<static_cast<unsigned>(how.blocks), how.threads, static_cast<size_t>(how.shared),
           how.stream>>>(arguments...);
  return cudaGetLastError();
}

}  // namespace lf
