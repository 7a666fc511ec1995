#include "tests/kernels/emulation/emulated_operations.h"

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
void run(const Task& task) {
  LF_CHECK(kKernel(task, nullptr) == cudaSuccess, "a kernel refused its task");
}

}  // namespace

namespace {

const DeviceOperations& emulated_operations() {
  static const DeviceOperations table = {
      .on_host = true,
      .norm = &run<cuda_norm, DeviceNorm>,
      .norm_back = &run<cuda_norm_back, DeviceNorm>,
      .attention = &run<cuda_attention, DeviceAttention>,
      .attention_back = &run<cuda_attention_back, DeviceAttention>,
      .takes_attention = &cuda_takes_attention,
      .linear_attention = &run<cuda_linear_attention, DeviceLinearAttention>,
      .linear_attention_back = &run<cuda_linear_attention_back, DeviceLinearAttention>,
      .takes_linear_attention = &cuda_takes_linear_attention,
      .depthwise = &run<cuda_depthwise, DeviceDepthwise>,
      .depthwise_back = &run<cuda_depthwise_back, DeviceDepthwise>,
      .nearest_code = &run<cuda_nearest_code, DeviceSearch>,
      .activation = &run<cuda_activation, DeviceActivation>,
      .activation_back = &run<cuda_activation_back, DeviceActivation>,
      .add_residual = &run<cuda_add_residual, DeviceResidual>,
      .frame = &run<cuda_frame, DeviceFrame>,
      .show = &run<cuda_show, DeviceShow>};
  return table;
}

class EmulatedDevice : public Device {
 public:
  std::string description() const override { return "the host, as a GPU"; }
  std::shared_ptr<void> pinned(size_t /*bytes*/) override { return nullptr; }
  std::unique_ptr<RecordedStep> record(const std::function<void()>& /*step*/,
                                       int /*warm_up*/) override {
    return nullptr;
  }
  const DeviceKernels* kernels() const override {
    static const DeviceKernels kernels = {nullptr, nullptr, emulated_operations()};
    return &kernels;
  }
};

}  // namespace

Device& emulated_device() {
  static EmulatedDevice device;
  return device;
}

}  // namespace lf
