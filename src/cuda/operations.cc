// See operations.h. Every operation is queued on the current stream of the current device.
#include "cuda/operations.h"

#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include "base/error.h"
#include "cuda/attention_kernels.h"
#include "cuda/depthwise_kernels.h"
#include "cuda/frame_kernels.h"
#include "cuda/linear_attention_kernels.h"
#include "cuda/norm_kernels.h"
#include "cuda/pointwise_kernels.h"
#include "cuda/search_kernels.h"

namespace lf {
namespace {

template <auto kKernel, typename Task>
void queue(const Task& task) {
  const cudaError_t status = kKernel(task, c10::cuda::getCurrentCUDAStream());
  if (status != cudaSuccess) {
    fail(Code::kBug, "a fused operation could not be queued: CUDA reports ",
         cudaGetErrorString(status));
  }
}

}  // namespace

DeviceOperations cuda_operations() {
  return {.norm = &queue<cuda_norm, DeviceNorm>,
          .norm_back = &queue<cuda_norm_back, DeviceNorm>,
          .attention = &queue<cuda_attention, DeviceAttention>,
          .attention_back = &queue<cuda_attention_back, DeviceAttention>,
          .takes_attention = &cuda_takes_attention,
          .linear_attention = &queue<cuda_linear_attention, DeviceLinearAttention>,
          .linear_attention_back = &queue<cuda_linear_attention_back, DeviceLinearAttention>,
          .takes_linear_attention = &cuda_takes_linear_attention,
          .depthwise = &queue<cuda_depthwise, DeviceDepthwise>,
          .depthwise_back = &queue<cuda_depthwise_back, DeviceDepthwise>,
          .nearest_code = &queue<cuda_nearest_code, DeviceSearch>,
          .activation = &queue<cuda_activation, DeviceActivation>,
          .activation_back = &queue<cuda_activation_back, DeviceActivation>,
          .add_residual = &queue<cuda_add_residual, DeviceResidual>,
          .frame = &queue<cuda_frame, DeviceFrame>,
          .show = &queue<cuda_show, DeviceShow>};
}

}  // namespace lf
