// The plugin's NCCL process group: ProcessGroupNCCL with our timeout, bound to one device and
// connected at once. Implements comm/device_backend.h.
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "base/error.h"
#include "comm/device_backend.h"

namespace lf {
namespace {

// LibTorch's messages carry a C++ stack after the first line.
std::string first_line(const char* what) {
  const std::string text = what;
  return text.substr(0, text.find('\n'));
}

class NcclBackend : public DeviceBackend {
 public:
  c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const c10::intrusive_ptr<c10d::Store>& store,
                                                      int rank, int size, int device,
                                                      std::chrono::milliseconds timeout) override {
    // LibTorch counts devices in a signed char.
    const int devices = static_cast<unsigned char>(c10::cuda::device_count());
    if (device < 0 || device >= devices) {
      fail(Code::kUsage, "rank ", rank, " was given GPU ", device, ", this machine shows ", devices,
           "; start at most one rank a GPU, or check CUDA_VISIBLE_DEVICES");
    }
    try {
      const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(device));
      const at::Device bound(at::kCUDA, static_cast<c10::DeviceIndex>(device));
      auto options = c10d::ProcessGroupNCCL::Options::create(/*is_high_priority_stream=*/true);
      options->timeout = timeout;
      auto backend = c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, options);
      backend->setBoundDeviceId(bound);
      backend->eagerConnectSingleDevice(bound);
      return backend;
    } catch (const std::exception& error) {
      fail(Code::kPeer, "rank ", rank, " of ", size, " could not connect NCCL on GPU ", device,
           ": ", printable(first_line(error.what()), 400),
           "; NCCL_DEBUG=WARN in the environment makes NCCL say more");
    }
  }
};

}  // namespace
}  // namespace lf

extern "C" __attribute__((visibility("default"))) lf::DeviceBackend* lf_device_backend() {
  static lf::NcclBackend backend;
  return &backend;
}
